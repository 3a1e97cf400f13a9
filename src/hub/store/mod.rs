//! All SQL of the hub's tables.

pub mod again;
pub mod astray;
pub mod circuits;
pub mod deliveries;
pub mod depths;
pub mod endpoints;
pub mod ends;
pub mod fanout;
pub mod held;
pub mod lines;
pub mod log_entries;
pub mod mappings;
pub mod parameters;
pub mod parameters_linked;
pub mod pending;
pub mod pollers;
pub mod retention;
pub mod returned;
pub mod revive;
pub mod shown;
pub mod snapshots;
pub mod stores;
pub mod ticks;

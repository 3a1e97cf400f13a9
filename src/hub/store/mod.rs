//! All SQL of the hub's tables.

pub mod again;
pub mod endpoints;
pub mod fanout;
pub mod held;
pub mod mappings;
pub mod parameters;
pub mod pollers;
pub mod retention;
pub mod revive;
pub mod shown;
pub mod snapshots;
pub mod stores;
pub mod ticks;

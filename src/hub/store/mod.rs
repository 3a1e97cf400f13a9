//! All SQL of the hub's tables.

pub mod circuits;
pub mod deliveries;
pub mod ends;
pub mod lines;
pub mod log_entries;
pub mod parameters_linked;
pub mod pending;
pub mod returned;
pub mod revive;

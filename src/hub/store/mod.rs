//! All SQL of the hub's tables.

pub mod endpoints;
pub mod fanout;
pub mod mappings;
pub mod pollers;
pub mod retention;
pub mod snapshots;
pub mod ticks;

//! The SQL of polling: pollers, what they have seen, and what fires when.

pub mod keys;
pub mod pollers;
pub mod snapshots;
pub mod ticks;

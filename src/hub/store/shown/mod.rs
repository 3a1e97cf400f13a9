//! The SQL of what people see: messages, deliveries, log entries.

pub mod deliveries;
pub mod log_entries;
pub mod messages;

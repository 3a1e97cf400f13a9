//! The SQL of what people see: messages, deliveries, log entries.

pub mod deliveries;
pub mod delivery_page;
pub mod log_entries;
pub mod message_page;
pub mod messages;
pub mod page;

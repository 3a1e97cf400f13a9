//! The SQL of messages, and of the deliveries that routing makes of them.

pub mod fanout;
pub mod messages;
pub mod page;
pub mod pending;
pub mod push;

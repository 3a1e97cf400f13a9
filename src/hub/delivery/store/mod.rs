//! The SQL of deliveries, their attempts, and what their endpoints said.

pub mod archive;
pub mod deliveries;
pub mod depths;
pub mod descendants;
pub mod ends;
pub mod jump;
pub mod learned;
pub mod listing;
pub mod log_listing;
pub mod notifications;
pub mod page;
pub mod parameters;
pub mod rerun;
pub mod returned;
pub mod revive;
pub mod why;

//! What the listings of the hub share.

pub mod page;
pub mod query;

//! Routing: which mappings a message goes to.

pub mod decide;
pub mod identifiers;
pub mod lineage;
pub mod message;
pub mod pending;
pub mod push;
pub mod routes;
pub mod store;

//! Definitions: the endpoints, mappings and parameters of a store, as administrators put them.

pub mod ask;
pub mod catalog;
pub mod documents;
pub mod endpoint;
pub mod filter;
pub mod former;
pub mod mapping;
pub mod path;
pub mod routes;
pub mod schedule;
pub mod secrets;
pub mod service_catalogue;
pub mod store;

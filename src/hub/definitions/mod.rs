//! Definitions: the endpoints, mappings and parameters of a store, as administrators put them.

pub mod ask;
pub mod catalog;
pub mod documents;
pub mod endpoint;
pub mod filter;
pub mod fit;
pub mod former;
pub mod header;
pub mod mapping;
pub mod path;
pub mod routes;
pub mod schedule;
pub mod secrets;
pub mod service_catalogue;
pub mod signing;
pub mod store;
pub mod template;
pub mod wire_secrets;

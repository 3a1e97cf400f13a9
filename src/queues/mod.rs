//! Push a message, have it handled, ask for its result.

pub mod access;
pub mod catalog;
pub mod consumer;
pub mod definition;
pub mod files;
pub mod install;
pub mod javascript;
pub mod messaging;
pub mod metrics;
pub mod name;
pub mod native;
pub mod options;
pub mod outcome;
pub mod push;
pub mod roles;
pub mod routes;
pub mod runners;
pub mod schema;
pub mod store;
pub mod upkeep;
pub mod webhook;
pub mod when;

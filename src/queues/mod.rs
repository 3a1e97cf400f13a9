//! Push a message, have it handled, ask for its result.
pub mod definition;
pub mod files;
pub mod name;
pub mod options;
pub mod roles;
pub mod schema;

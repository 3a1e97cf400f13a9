//! The SQL of definitions, and of the deliveries that a changed definition moves.

pub mod astray;
pub mod endpoints;
pub mod failures;
pub mod held;
pub mod keys;
pub mod mappings;
pub mod of_endpoints;
pub mod parameters;
pub mod stores;

//! The hub over HTTP, one file a capability.

mod deliveries;
mod stage;

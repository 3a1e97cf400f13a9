//! The hub over HTTP, one file a capability.

mod again;
mod catalogue;
mod definitions;
mod deliveries;
mod held;
mod messages;
mod roles;
mod routing;
mod stage;

//! The hub over HTTP, one file a capability.

mod again;
mod catalogue;
mod control;
mod definitions;
mod deliveries;
mod held;
mod hostile;
mod killed;
mod messages;
mod roles;
mod routing;
mod secrets;
mod stage;

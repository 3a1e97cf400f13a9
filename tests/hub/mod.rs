//! The hub over HTTP, one file a capability.

mod control;
mod deliveries;
mod hostile;
mod killed;
mod secrets;
mod stage;

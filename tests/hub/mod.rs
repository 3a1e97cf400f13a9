//! The hub over HTTP, one file a capability.

mod control;
mod deliveries;
mod hostile;
mod killed;
mod pollers;
mod reports;
mod schedules;
mod secrets;
mod sql;
mod stage;
mod storefront;
mod upkeep;

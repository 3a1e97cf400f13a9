//! The hub over HTTP, one file a capability.

mod again;
mod catalogue;
mod certificates;
mod control;
mod definitions;
mod deliveries;
mod held;
mod hostile;
mod kept;
mod killed;
mod messages;
mod metrics;
mod pollers;
mod reports;
mod roles;
mod routing;
mod schedules;
mod secrets;
mod settled;
mod signatures;
mod sql;
mod stage;
mod storefront;
mod upkeep;

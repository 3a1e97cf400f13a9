//! The hub over HTTP, one file a capability.

mod deliveries;
mod pollers;
mod reports;
mod schedules;
mod sql;
mod stage;
mod storefront;
mod upkeep;

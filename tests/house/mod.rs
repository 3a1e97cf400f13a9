//! What keeps the house in order: who imports whom, who writes which table, settings, migrations, access.

mod architecture;
mod authorization;
mod bounds;
mod circles;
mod configuration;
mod described;
mod members;
mod migrations;
mod named;
mod parameters;
pub(crate) mod sealed;
mod singles;

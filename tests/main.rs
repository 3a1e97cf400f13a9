//! Everything that users rely on, one file a capability. `cargo test` needs no server: it starts its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod embedded;
mod engine;
mod faults;
mod first_minute;
mod house;
mod hub;
mod javascript;
mod javascript_hostile;
mod javascript_pool;
mod javascript_services;
mod jobs;
mod jump;
mod library;
mod log;
mod queues;
mod reports;
mod support;
mod traces;

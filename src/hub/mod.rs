//! The hub: routes a message to every mapped endpoint until it is delivered.
//!
//! ```text
//!   POST /stores/{store}/messages ──┐
//!   an answer's messages ───────────┼─▶ hub_messages ─▶ routing ─▶ deliveries + dispatch (one a mapping)
//!   schedules, pollers, publish() ──┘                                    │ claim: the lane of the endpoint
//!                                                                        ▼
//!          attempt, children, parameters, log entries ◀── verdict ◀── POST <endpoint>/<service>
//!          in one transaction, fenced by the lease           │
//!                                                            └─ failed: again by backoff, or parked
//! ```
//!
//! A delivery is PENDING until it ends: COMPLETE (delivered), ERROR (parked: kept until somebody decides) or
//! SKIPPED (a duplicate). An endpoint's failure is data, never an `Err`.

pub mod answer;
pub mod catalog;
pub mod circuit;
pub mod consumer;
pub mod definition;
pub mod endpoint;
pub mod filter;
pub mod identifiers;
pub mod linked;
pub mod log_entry;
pub mod mapping;
pub mod message;
pub mod outcome;
pub mod path;
pub mod poller;
pub mod purpose;
pub mod push;
pub mod rate;
pub mod redact;
pub mod request;
pub mod roles;
pub mod router;
pub mod routes;
pub mod routing;
pub mod schedule;
pub mod secrets;
pub mod service_catalogue;
pub mod store;
pub mod ticker;
pub mod upkeep;
pub mod verdict;

mod attempt;
pub mod metrics;
mod settlement;
mod start;

pub use start::start;

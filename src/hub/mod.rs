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
//!
//! Who may import whom, held by `tests/house/architecture.rs`: `start → {routes, upkeep} → {delivery, polling} → routing →
//! state → definitions → {schedule, lines} → {key, listing, purpose, retry_after, roles}`. Only the routes of definitions
//! reach up to the [`state`].

pub mod definitions;
pub mod delivery;
pub mod key;
pub mod lines;
pub mod listing;
pub mod polling;
pub mod purpose;
pub mod retry_after;
pub mod roles;
pub mod routes;
pub mod routing;
pub mod schedule;
pub mod state;
pub mod upkeep;

mod start;

pub use start::start;

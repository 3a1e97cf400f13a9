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
//! Its rooms, each with its own routes and SQL:
//!
//! | room | is |
//! | --- | --- |
//! | [`delivery`] | how a message reaches an endpoint, and what its answer causes |
//! | [`polling`] | what is sent by schedule, and what is read from storefronts |
//! | [`notices`] | what the hub says of itself: messages and log entries |
//! | [`routing`] | which mappings a message goes to |
//! | [`definitions`] | endpoints, mappings and parameters, as administrators put them |
//!
//! Who may import whom, checked by `tests/house/architecture.rs`: `start → {routes, upkeep, jump} → {delivery, polling} →
//! notices → routing → state → definitions → {key, listing, parked_by, purpose, roles}`. Only the routes of
//! definitions import the [`state`] above them.

pub mod definitions;
pub mod delivery;
pub mod jump;
pub mod key;
pub mod listing;
pub mod notices;
pub mod parked_by;
pub mod polling;
pub mod purpose;
pub mod roles;
pub mod routes;
pub mod routing;
pub mod state;
pub mod upkeep;

mod start;

pub use start::start;

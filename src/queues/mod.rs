//! Push a message, have it handled, ask for its result.
//!
//! ```text
//!                         ┌───────────── retry, reclaim, retry by hand ─────────────┐
//!                         ▼                                                          │
//!   push ──▶ PENDING (dispatch) ──claim──▶ INPROGRESS (a lease) ──settle──▶ COMPLETE | ERROR (an outcome)
//!               ▲ promote                                              └──▶ PENDING (scheduled, an attempt)
//!   push with a delay ──▶ PENDING (scheduled)
//! ```
//!
//! A *queue* is a lane of the engine with a [`definition`]: who may use it ([`roles`]), what may be pushed
//! ([`schema`]), what runs it ([`runners`]) and how ([`options`]), what follows when it fails ([`retry`]), and which of
//! its messages are the same ([`uniqueness`]). A *message* is a row that never changes; an
//! *attempt* is one run of it; its *outcome* is the end of the last one ([`outcome`] decides). A *schedule* pushes a
//! message at moments that come by themselves ([`schedules`]).

pub mod access;
pub mod catalog;
pub mod consumer;
pub mod definition;
pub mod files;
pub mod identity;
pub mod install;
pub mod javascript;
pub mod jump;
pub mod messaging;
pub mod metrics;
pub mod name;
pub mod native;
pub mod options;
pub mod outcome;
pub mod push;
pub mod remote;
pub mod retry;
pub mod roles;
pub mod routes;
pub mod runners;
pub mod schedules;
pub mod schema;
pub mod secret;
mod spans;
pub mod store;
pub mod uniqueness;
pub mod upkeep;
pub mod webhook;
pub mod when;
pub mod why;

mod failures;
mod held;
mod tidy;

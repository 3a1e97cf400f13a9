//! Delivery: how a message reaches an endpoint, and what its answer causes.

pub mod answer;
pub mod consumer;
pub mod disabling;
pub mod linked;
pub mod metrics;
pub mod outcome;
pub mod redact;
pub mod request;
pub mod routes;
pub mod store;
pub mod streaks;
pub mod verdict;
pub mod why;

mod advice;
mod attempt;
mod brought;
mod changes;
mod descendants;
mod echo;
mod headers;
mod judge;
mod parked;
mod probing;
mod refusal;
mod repeats;
mod settlement;
mod spans;

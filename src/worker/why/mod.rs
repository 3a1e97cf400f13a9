//! Why something is not running: what a reason is, and those that the engine knows.
//!
//! A feature reads the facts of its item in one transaction ([`store::why`](super::store::why)) and decides by a pure
//! function; what holds for every kind of item is decided here ([`mod@wait`], [`mod@held`]). However many items wait, the facts
//! cost the same: each is an index look-up, or a walk of at most [`LOOKED_AT`](super::store::why::LOOKED_AT) entries.

mod held;
mod reason;
#[cfg(test)]
pub mod samples;
mod wait;

pub use held::{held, is_held};
pub use reason::{Cause, Holder, ItemKind, Reason, Why, brief, moment};
pub use wait::{Places, due, held_back, later, no_key, nobody_asks, order, places, runs_key, who_runs};

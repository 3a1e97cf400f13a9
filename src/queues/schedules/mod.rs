//! Schedules of queues: which message is pushed when, by itself.
//!
//! ```text
//!   PUT ─▶ queue_schedules + schedules.next_at ─▶ the ticker (flow::ticker): each moment once ─▶ messages + dispatch
//! ```
//!
//! A schedule is code, as a definition is: administrators put it, over HTTP, in a definition's member `schedules` from a
//! file or from a program. What it pushes is a message as any other, validated before it runs by the schema that the
//! queue has then.

pub mod documented;
pub mod entry;
pub mod firing;
pub mod put;
pub mod schedule;
mod unique;

pub use entry::Entry;

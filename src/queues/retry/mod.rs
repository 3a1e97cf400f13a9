//! How a message goes on whose attempt failed: whether it is tried again, and after which pause.

pub mod documented;
mod pause;
mod read;
mod terms;

pub use read::Retry;
pub use terms::{Decision, Failure, Terms};

//! How an attempt of a message ends, and what follows from it.

use super::options::{Failure, Options};
use crate::http::json_text::raw;
use crate::worker::delay::delay_after;
use serde_json::value::RawValue;
use std::time::Duration;

/// How an attempt ended.
#[derive(Debug)]
pub struct Outcome {
    /// The end.
    pub end: End,
    /// What the handler logged: a JSON array.
    pub logs: Option<Box<RawValue>>,
    /// Who ran it, when it was not this process.
    pub worker: Option<String>,
}

/// The end of an attempt, from whichever kind of handler.
#[derive(Debug)]
pub enum End {
    /// It gave a result.
    Complete(Box<RawValue>),
    /// The handler rejected, threw or took too long. Final, unless `max_attempts` grants more.
    Reject(Box<RawValue>),
    /// It said that trying again is of no use.
    Fail(Box<RawValue>),
    /// It failed in passing: again after this time, or by the definition's backoff.
    Retry(Box<RawValue>, Option<Duration>),
    /// It never began: again by the definition's backoff, and the attempt does not count.
    NotStarted(Box<RawValue>),
    /// Its worker died or went silent.
    Lost,
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        Self { end, logs: None, worker: None }
    }
}

/// What is done about an end.
#[derive(Debug)]
pub enum Next<'a> {
    /// The message is COMPLETE with this result.
    Complete(&'a RawValue),
    /// The message is ERROR with this error.
    Error(std::borrow::Cow<'a, RawValue>),
    /// It is PENDING again.
    Again {
        /// Why the attempt failed.
        error: std::borrow::Cow<'a, RawValue>,
        /// How long it waits.
        after: Duration,
    },
}

/// Decides what follows from the end of an attempt (counted from 1) under these options.
pub fn next<'a>(end: &'a End, attempt: i16, options: &Options) -> Next<'a> {
    use std::borrow::Cow::{Borrowed, Owned};
    let attempt = attempt.unsigned_abs();
    let again = |failure| options.may_try_again(failure, attempt);
    let backoff = || delay_after(u32::from(attempt), options.retry_base, options.retry_cap);
    match end {
        End::Complete(result) => Next::Complete(result),
        End::Reject(error) if again(Failure::Rejected) => {
            Next::Again { error: Borrowed(error), after: backoff() }
        }
        End::Retry(error, after) if again(Failure::Transient) => {
            Next::Again { error: Borrowed(error), after: after.unwrap_or_else(backoff) }
        }
        End::NotStarted(error) => Next::Again { error: Borrowed(error), after: backoff() },
        // Nothing is wrong with the message, as far as anyone knows: no backoff.
        End::Lost if again(Failure::WorkerLost) => {
            Next::Again { error: Owned(worker_lost()), after: Duration::ZERO }
        }
        End::Reject(error) | End::Retry(error, _) | End::Fail(error) => Next::Error(Borrowed(error)),
        End::Lost => Next::Error(Owned(worker_lost())),
    }
}

/// An error as it is stored: `{"name", "message"}`.
pub fn error(name: &str, message: &str) -> Box<RawValue> {
    raw(&serde_json::json!({ "name": name, "message": message }))
}

fn worker_lost() -> Box<RawValue> {
    error("WorkerLost", "the worker that ran this message died, or lost its lease")
}

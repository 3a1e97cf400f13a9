//! How the run of a handler ended, and what of that is stored with its message.

use super::protocol::LogLine;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::time::Duration;

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// What the handler printed; empty when its process died before it could hand it over.
    pub logs: Vec<LogLine>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The handler returned this, or resolved its promise with it.
    Resolved(Box<RawValue>),
    /// The handler threw or rejected with this; or its result cannot be stored, and this says why.
    Rejected(Box<RawValue>),
    /// It said that trying again is of no use, with this error.
    Final(Box<RawValue>),
    /// It asked for another try: after this time, or by its queue's backoff.
    Retry(Box<RawValue>, Option<Duration>),
    /// It put the message off for this time.
    Later(Box<RawValue>, Duration),
    /// It had not settled after this time.
    TimedOut(Duration),
    /// Its process died under it.
    Crashed(Crash),
    /// The caller cancelled it.
    Cancelled,
    /// Its process was told to end from outside, as a service manager does at a shutdown. Worth another
    /// attempt.
    Interrupted,
    /// It has not run: no process could be started for it. Worth another attempt later.
    NotStarted(String),
}

/// What a child process died of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crash {
    /// Memory: it aborted when an allocation failed, or the system killed it.
    Memory,
    /// Anything else, in words.
    Other(String),
}

impl From<Outcome> for Ended {
    /// A run that left no log.
    fn from(outcome: Outcome) -> Self {
        Self { outcome, logs: Vec::new() }
    }
}

impl Outcome {
    /// The result or the error that is stored with the message.
    ///
    /// # Errors
    /// The error to store, as JSON; for all but [`Outcome::Resolved`].
    pub fn into_stored(self) -> Result<Box<RawValue>, Box<RawValue>> {
        Err(match self {
            Self::Resolved(result) => return Ok(result),
            Self::Rejected(error) | Self::Final(error) | Self::Retry(error, _) | Self::Later(error, _) => {
                error
            }
            Self::TimedOut(after) => {
                let after = humantime::format_duration(after);
                named("TimeoutError", &format!("the handler did not settle within {after}"))
            }
            Self::Crashed(Crash::Memory) => {
                named("MemoryLimitError", "the handler's process ran out of memory")
            }
            Self::Crashed(Crash::Other(reason)) => named("HandlerCrashed", &reason),
            Self::Cancelled => named("Cancelled", "the handler was stopped"),
            Self::Interrupted => named("Interrupted", "the handler's process was told to end"),
            Self::NotStarted(reason) => named("NotStarted", &reason),
        })
    }
}

fn named(name: &str, message: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        message: &'a str,
    }
    to_raw_value(&Named { name, message }).expect("two strings are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_stored_as_a_named_error() {
        let stored = |outcome: Outcome| outcome.into_stored().map_err(|error| error.get().to_owned());
        for (outcome, expected) in [
            (
                Outcome::TimedOut(Duration::from_secs(90)),
                r#"{"name":"TimeoutError","message":"the handler did not settle within 1m 30s"}"#,
            ),
            (
                Outcome::Crashed(Crash::Memory),
                r#"{"name":"MemoryLimitError","message":"the handler's process ran out of memory"}"#,
            ),
            (
                Outcome::Crashed(Crash::Other("signal 11".to_owned())),
                r#"{"name":"HandlerCrashed","message":"signal 11"}"#,
            ),
        ] {
            assert_eq!(stored(outcome).map(|result| result.get().to_owned()), Err(expected.to_owned()));
        }
    }
}

//! How an attempt of a message ends, what follows from it, and whether it is the end that is stored.

use super::options::{Failure, Terms};
use super::store::ends::{Ending, Stored};
use crate::http::idempotency::digest;
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
    /// What it ran under. Where nobody knows, since its worker was lost, the definition as it is now decides: by
    /// that it would run again.
    pub terms: Option<Terms>,
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
    /// Its worker was told to stop: again at once, and the attempt does not count.
    GivenBack,
    /// The database would not take what was said.
    Refused(Box<RawValue>),
}

impl End {
    /// Its word in the tables.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Complete(_) => Ending::Completed,
            Self::Reject(_) => Ending::Rejected,
            Self::Fail(_) => Ending::Failed,
            Self::Retry(..) => Ending::Retried,
            Self::NotStarted(_) => Ending::NotStarted,
            Self::Lost => Ending::Lost,
            Self::GivenBack => Ending::GivenBack,
            Self::Refused(_) => Ending::Refused,
        }
    }

    /// Whether the attempt counts: not if it never began, or its worker gave it back.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::NotStarted(_) | Self::GivenBack)
    }

    /// Whether the row is of this very end: of the same kind, with the same result or error. How long a worker
    /// wanted to wait for its next try is not kept, and not compared.
    pub fn is(&self, stored: &Stored) -> bool {
        let (said, kept) = match self {
            Self::Complete(result) => (result, &stored.result),
            Self::Reject(error)
            | Self::Fail(error)
            | Self::Retry(error, _)
            | Self::NotStarted(error)
            | Self::Refused(error) => (error, &stored.error),
            Self::Lost | Self::GivenBack => return stored.ending == self.ending(),
        };
        stored.ending == self.ending() && kept.as_ref().is_some_and(|kept| is_same(said, &kept.0))
    }

    /// About how many bytes it is.
    pub fn weight(&self) -> usize {
        match self {
            Self::Complete(json)
            | Self::Reject(json)
            | Self::Fail(json)
            | Self::Retry(json, _)
            | Self::NotStarted(json)
            | Self::Refused(json) => json.get().len(),
            Self::Lost | Self::GivenBack => 0,
        }
    }
}

/// Whether two texts are the same JSON, however each is written.
fn is_same(one: &RawValue, other: &RawValue) -> bool {
    one.get() == other.get() || digest("", one.get()) == digest("", other.get())
}

impl Outcome {
    /// An end of an attempt that ran under these terms in this process.
    pub fn under(terms: Terms, end: End) -> Self {
        Self { terms: Some(terms), ..Self::from(end) }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        Self { end, logs: None, worker: None, terms: None }
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

/// Decides what follows from the end of an attempt (counted from 1) under these terms.
pub fn next<'a>(end: &'a End, attempt: i16, terms: &Terms) -> Next<'a> {
    use std::borrow::Cow::{Borrowed, Owned};
    let attempt = attempt.unsigned_abs();
    let again = |failure| terms.may_try_again(failure, attempt);
    let backoff = || delay_after(u32::from(attempt), terms.retry_base, terms.retry_cap);
    match end {
        End::Complete(result) => Next::Complete(result),
        End::Reject(error) if again(Failure::Rejected) => {
            Next::Again { error: Borrowed(error), after: backoff() }
        }
        End::Retry(error, after) if again(Failure::Transient) => {
            Next::Again { error: Borrowed(error), after: after.unwrap_or_else(backoff) }
        }
        End::NotStarted(error) => Next::Again { error: Borrowed(error), after: backoff() },
        End::GivenBack => Next::Again { error: Owned(given_back()), after: Duration::ZERO },
        // Nothing is wrong with the message, as far as anyone knows: no backoff.
        End::Lost if again(Failure::WorkerLost) => {
            Next::Again { error: Owned(worker_lost()), after: Duration::ZERO }
        }
        End::Reject(error) | End::Retry(error, _) | End::Fail(error) | End::Refused(error) => {
            Next::Error(Borrowed(error))
        }
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

fn given_back() -> Box<RawValue> {
    error("GivenBack", "given back: the worker that ran this message was told to stop")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use sqlx::types::Json;

    fn json(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn stored(ending: Ending, result: Option<&str>, error: Option<&str>) -> Stored {
        let json = |text: Option<&str>| text.map(|text| Json(json(text)));
        Stored {
            id: uuid::Uuid::nil(),
            lease: uuid::Uuid::nil(),
            ending,
            result: json(result),
            error: json(error),
        }
    }

    #[test]
    fn an_end_is_stored_when_the_row_says_the_same_and_nothing_else() {
        let complete = End::Complete(json(r#"{"a":1, "b":[]}"#));
        assert!(complete.is(&stored(Ending::Completed, Some(r#"{"b": [], "a": 1}"#), None)));
        assert!(!complete.is(&stored(Ending::Completed, Some(r#"{"a":2,"b":[]}"#), None)));
        assert!(!complete.is(&stored(Ending::Lost, None, Some("{}"))));
        let odd = End::Complete(json(r#""\ud800""#));
        assert!(odd.is(&stored(Ending::Completed, Some(r#""\ud800""#), None)));
        assert!(!odd.is(&stored(Ending::Completed, Some(r#""\ud801""#), None)));
        let error = Some("7");
        assert!(End::Fail(json("7")).is(&stored(Ending::Failed, None, error)));
        assert!(!End::Fail(json("7")).is(&stored(Ending::Retried, None, error)));
        assert!(End::Retry(json("7"), Some(Duration::ZERO)).is(&stored(Ending::Retried, None, error)));
        assert!(!End::Retry(json("7"), None).is(&stored(Ending::Lost, None, error)));
    }
}

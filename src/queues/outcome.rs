//! How an attempt of a message ends, what follows from it, and whether it is the end that is stored.

use super::retry::{Decision, Failure, Terms};
use super::store::ends::{Ending, Stored};
use crate::http::idempotency::digest;
use crate::http::json_text::raw;
use serde::Deserialize;
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
    /// It put the message off: again after this time, or by the definition's backoff, and the attempt does not count.
    Later(Box<RawValue>, Option<Duration>),
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
            Self::Later(..) => Ending::Snoozed,
            Self::NotStarted(_) => Ending::NotStarted,
            Self::Lost => Ending::Lost,
            Self::GivenBack => Ending::GivenBack,
            Self::Refused(_) => Ending::Refused,
        }
    }

    /// Whether the attempt counts: not if it never began, was put off, or its worker gave it back.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::NotStarted(_) | Self::Later(..) | Self::GivenBack)
    }

    /// Whether the row is of this very end: of the same kind, with the same result or error. How long a worker
    /// wanted to wait for its next try is not kept, and not compared.
    pub fn is(&self, stored: &Stored) -> bool {
        let (said, kept) = match self {
            Self::Complete(result) => (result, &stored.result),
            Self::Reject(error)
            | Self::Fail(error)
            | Self::Retry(error, _)
            | Self::Later(error, _)
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
            | Self::Later(json, _)
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

/// Decides what follows from the end of an attempt (counted from 1) under these terms. `tried` is for how long the
/// message has been tried; it matters only where [`may_be_too_old`] says so.
pub fn next<'a>(end: &'a End, attempt: i16, terms: &Terms, tried: Duration) -> Next<'a> {
    use std::borrow::Cow::{Borrowed, Owned};
    let number = attempt.unsigned_abs();
    let ended = |failure, error: std::borrow::Cow<'a, RawValue>, wanted: Option<Duration>| match decide(
        terms, failure, &error, number,
    ) {
        Decision::Again { pause, within } => {
            let after = wanted.unwrap_or(pause);
            if within.is_none_or(|within| tried.saturating_add(after) <= within) {
                return Next::Again { error, after };
            }
            Next::Error(error)
        }
        Decision::Final => Next::Error(error),
    };
    match end {
        End::Complete(result) => Next::Complete(result),
        End::Reject(error) => ended(Failure::Rejected, Borrowed(error), None),
        End::Retry(error, after) => ended(Failure::Transient, Borrowed(error), *after),
        End::Later(error, after) => ended(Failure::Snoozed, Borrowed(error), *after),
        // Nothing is wrong with the message, as far as anyone knows: no backoff.
        End::Lost => ended(Failure::WorkerLost, Owned(worker_lost()), Some(Duration::ZERO)),
        End::NotStarted(error) => Next::Again { error: Borrowed(error), after: terms.backoff(number) },
        End::GivenBack => Next::Again { error: Owned(given_back()), after: Duration::ZERO },
        End::Fail(error) | End::Refused(error) => Next::Error(Borrowed(error)),
    }
}

/// Whether for how long the message has been tried decides about this end.
pub fn may_be_too_old(end: &End, attempt: i16, terms: &Terms) -> bool {
    let within = |failure, error: &RawValue| match decide(terms, failure, error, attempt.unsigned_abs()) {
        Decision::Again { within, .. } => within.is_some(),
        Decision::Final => false,
    };
    match end {
        End::Reject(error) => within(Failure::Rejected, error),
        End::Retry(error, _) => within(Failure::Transient, error),
        End::Later(error, _) => within(Failure::Snoozed, error),
        End::Lost => within(Failure::WorkerLost, &worker_lost()),
        _ => false,
    }
}

fn decide(terms: &Terms, failure: Failure, error: &RawValue, attempt: u16) -> Decision {
    let name = if terms.ask_names() { name_of(error) } else { None };
    terms.decide(failure, name.as_deref(), attempt)
}

/// The name of an error, where it is an object that has one.
fn name_of(error: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(error.get()).ok().map(|named| named.name)
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
        assert!(End::Later(json("7"), None).is(&stored(Ending::Snoozed, None, error)));
    }

    #[test]
    fn what_has_been_tried_for_too_long_is_not_tried_again() {
        let second = Duration::from_secs;
        let terms = |retry: serde_json::Value| {
            let document = serde_json::json!({ "options": { "max_attempts": 9, "retry": retry } });
            crate::queues::definition::Definition::read("q", &document).unwrap().options.terms
        };
        let is_again =
            |end: &End, terms: &Terms, tried| matches!(next(end, 1, terms, tried), Next::Again { .. });
        let short = terms(serde_json::json!({ "max_age": "10s", "by": { "Patient": { "max_age": "1h" } } }));
        let later = |after| End::Later(json("7"), Some(second(after)));
        assert!(may_be_too_old(&later(3), 1, &short) && is_again(&later(3), &short, second(7)));
        assert!(!is_again(&later(4), &short, second(7)));
        let retry = End::Retry(json("7"), Some(second(1)));
        assert!(is_again(&retry, &short, second(9)) && !is_again(&retry, &short, second(10)));
        assert!(!is_again(&End::Lost, &short, second(11)));
        assert!(is_again(&End::GivenBack, &short, second(11)));
        let patient = End::Reject(json(r#"{"message":"", "name":"P\u0061tient"}"#));
        assert!(is_again(&patient, &short, second(3000)) && !is_again(&patient, &short, second(3601)));
        assert!(!may_be_too_old(&retry, 1, &Terms::default()));
    }
}

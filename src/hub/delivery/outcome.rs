//! How an attempt at a delivery ends, and what follows from it.

use super::store::deliveries::Delivery;
use super::store::ends;
use super::verdict::{Failed, Verdict};
use crate::flow::circuits::Change;
use crate::hub::definitions::mapping::{Mapping, Options, Retry};
use crate::hub::parked_by::ParkedBy;
use crate::hub::routing::lineage::Lineage;
use crate::traces::Context;
use crate::worker::delay::delay_after;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;

/// A message that an answer brings makes rows of about this size, and so does each of its deliveries.
const ROW: usize = 512;

/// The engine counts no further: there a larger `max_attempts` is reached.
const COUNTED: u32 = i16::MAX.unsigned_abs() as u32;

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// The endpoint was asked, or there was something wrong with asking it.
    Attempted(Box<Attempted>),
    /// It never began and goes back: no attempt.
    NotStarted {
        /// The lane in which it is to be claimed.
        lane: i32,
        /// How long it waits.
        after: Duration,
    },
    /// Its service is failing and left alone: no attempt.
    Waits {
        /// The service.
        service: String,
        /// Until when it waits, unless the circuit was closed meanwhile.
        until: DateTime<Utc>,
    },
    /// Its mapping is switched off: no attempt.
    Held,
    /// It can never run, for this reason: no attempt.
    Parked(ParkedBy, &'static str),
    /// Its worker died or went silent.
    Lost,
    /// Its worker was told to stop. The request may have been sent.
    GivenBack,
}

/// An attempt, with everything that is kept of it. Nothing in it shows a secret but what is to be stored as one.
#[derive(Debug)]
pub struct Attempted {
    /// Its delivery, as it was read when it was claimed; `None` if it came to nothing before that.
    pub delivery: Option<Delivery>,
    /// The mapping as it ran: what that says decides, whatever it says now. `None` where nobody knows.
    pub mapping: Option<Arc<Mapping>>,
    /// The version of its endpoint's definition that it ran under. `None` as for the mapping.
    pub version: Option<i64>,
    /// How many mappings its store has, each of which may want what the answer brings.
    pub fanout: usize,
    /// What it came to.
    pub verdict: Verdict,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// From the request to the end of the answer.
    pub took: Duration,
    /// The beginning of the answer.
    pub body: Option<String>,
    /// What a message comes of that answers it. `None` if it came to nothing before that was read.
    pub lineage: Option<Lineage>,
    /// What it changed in the endpoint.
    pub change: Change,
    /// What messages that it brings come of.
    pub trace: Option<Context>,
    /// When the request was sent.
    pub sent_at: Option<DateTime<Utc>>,
}

impl Attempted {
    /// An attempt that failed without asking anybody, or without leaving anything behind.
    pub fn failed(error: impl Into<String>) -> Self {
        Self {
            delivery: None,
            mapping: None,
            version: None,
            fanout: 0,
            verdict: Verdict::Failed(Failed::new(error)),
            status: None,
            took: Duration::ZERO,
            body: None,
            lineage: None,
            change: Change::default(),
            trace: None,
            sent_at: None,
        }
    }
}

impl Outcome {
    /// What is written of it as an attempt; `None` if it was none.
    pub fn verdict(&self) -> Option<ends::Verdict> {
        match self {
            Self::Attempted(attempted) => Some(attempted.verdict.word()),
            Self::Lost => Some(ends::Verdict::Lost),
            Self::GivenBack => Some(ends::Verdict::Returned),
            Self::NotStarted { .. } | Self::Waits { .. } | Self::Held | Self::Parked(..) => None,
        }
    }

    /// About how many bytes it writes.
    pub fn weight(&self) -> usize {
        let Self::Attempted(attempted) = self else { return 0 };
        let brought = match &attempted.verdict {
            Verdict::Delivered(delivered) => {
                let children = delivered.children.iter();
                let children = children.map(|child| child.payload.get().len() + ROW * (1 + attempted.fanout));
                let parameters =
                    delivered.parameters.iter().map(|(name, value)| name.len() + value.get().len());
                children.chain(parameters).sum()
            }
            Verdict::Deferred { .. } | Verdict::Failed(_) => 0,
        };
        brought + attempted.body.as_ref().map_or(0, String::len)
    }
}

/// What is done about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is delivered.
    Complete,
    /// It is tried again.
    Again {
        /// How long it waits.
        after: Duration,
        /// Whether the attempt counts for backoff and `max_attempts`.
        counts: bool,
    },
    /// It is kept aside until somebody decides, by this rule and with these words.
    Parked(ParkedBy, String),
}

/// Decides what follows from a verdict. `attempt` counts the failed attempts, this one included if it failed, since
/// the delivery was made or last run again by hand; `age` is the time since then. `retry` is the backoff of a mapping
/// that names none.
pub fn next(verdict: &Verdict, attempt: i16, age: Duration, options: Option<&Options>, retry: Retry) -> Next {
    let retry = options.and_then(|options| options.retry).unwrap_or(retry);
    let attempt = u32::from(attempt.unsigned_abs());
    let too_old = options.and_then(|options| options.max_age).is_some_and(|most| age >= most);
    let failed = match verdict {
        Verdict::Delivered(_) => return Next::Complete,
        Verdict::Deferred { .. } if too_old => {
            let why = "the endpoint put it off, and it is older than max_age".to_owned();
            return Next::Parked(ParkedBy::MaxAge, why);
        }
        Verdict::Deferred { after, .. } => return Next::Again { after: *after, counts: false },
        Verdict::Failed(failed) => failed,
    };
    let parked = |by, why: &str| Next::Parked(by, format!("{} ({why})", failed.error));
    match options {
        _ if failed.is_final => return Next::Parked(ParkedBy::FinalAnswer, failed.error.clone()),
        Some(options) if !options.retries_allowed => {
            return parked(ParkedBy::RetriesNotAllowed, "retries are not allowed");
        }
        Some(Options { max_attempts: Some(most), .. }) if attempt >= (*most).min(COUNTED) => {
            let s = if attempt == 1 { "" } else { "s" };
            return parked(ParkedBy::MaxAttempts, &format!("after {attempt} attempt{s}"));
        }
        _ if too_old => return parked(ParkedBy::MaxAge, "older than max_age"),
        _ => {}
    }
    let backoff = delay_after(attempt, retry.base, retry.cap);
    Next::Again { after: backoff.max(failed.retry_after.unwrap_or_default()), counts: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const RETRY: Retry = Retry { base: Duration::from_secs(5), cap: Duration::from_hours(1) };

    fn options() -> Options {
        Options {
            retry: Some(Retry { base: Duration::from_secs(1), cap: Duration::from_secs(10) }),
            ..Options::default()
        }
    }

    fn failed(retry_after: Option<Duration>) -> Verdict {
        Verdict::Failed(Failed { retry_after, ..Failed::new("no") })
    }

    #[test]
    fn a_failure_is_tried_again_without_end_and_with_a_growing_delay() {
        for (attempt, most) in [(1, 1), (2, 2), (4, 8), (5, 10), (i16::MAX, 10)] {
            let next = next(&failed(None), attempt, MINUTE * 1_000_000, Some(&options()), RETRY);
            let Next::Again { after, counts: true } = next else { panic!("{next:?}") };
            assert!(after <= Duration::from_secs(most), "{attempt}: {after:?}");
        }
        assert!(matches!(next(&failed(None), 9, MINUTE, None, RETRY), Next::Again { counts: true, .. }));
    }

    #[test]
    fn retry_after_raises_the_delay_and_never_lowers_it() {
        let again = |after: u64| match next(
            &failed(Some(Duration::from_secs(after))),
            1,
            MINUTE,
            Some(&options()),
            RETRY,
        ) {
            Next::Again { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(again(3600), Duration::from_hours(1));
        assert!(again(0) <= Duration::from_secs(1));
    }

    #[test]
    fn limits_park() {
        let parked =
            |options: &Options, attempt| match next(&failed(None), attempt, MINUTE, Some(options), RETRY) {
                Next::Parked(by, why) => Some((by.word(), why)),
                _ => None,
            };
        let most = Options { max_attempts: Some(3), ..options() };
        assert_eq!(
            (parked(&most, 2), parked(&most, 3)),
            (None, Some(("max_attempts", "no (after 3 attempts)".to_owned())))
        );
        let many = Options { max_attempts: Some(1_000_000), ..options() };
        assert!(parked(&many, i16::MAX - 1).is_none() && parked(&many, i16::MAX).is_some());
        let old = Options { max_age: Some(MINUTE), ..options() };
        assert_eq!(parked(&old, 1), Some(("max_age", "no (older than max_age)".to_owned())));
        let once = Options { retries_allowed: false, ..options() };
        assert_eq!(
            parked(&once, 1),
            Some(("retries_not_allowed", "no (retries are not allowed)".to_owned()))
        );
    }

    #[test]
    fn what_would_only_be_answered_the_same_again_is_parked_at_once() {
        let verdict = Verdict::Failed(Failed { is_final: true, ..Failed::new("too many") });
        for options in [Some(&options()), None] {
            let parked = Next::Parked(ParkedBy::FinalAnswer, "too many".to_owned());
            assert_eq!(next(&verdict, 1, MINUTE, options, RETRY), parked);
        }
    }

    #[test]
    fn what_the_endpoint_puts_off_counts_no_attempt_but_grows_old() {
        let deferred = Verdict::Deferred { after: MINUTE, continue_url: None, notes: Vec::new() };
        let most = Options { max_attempts: Some(1), retries_allowed: false, ..options() };
        assert_eq!(
            next(&deferred, 9, MINUTE, Some(&most), RETRY),
            Next::Again { after: MINUTE, counts: false }
        );
        let old = Options { max_age: Some(MINUTE), ..options() };
        assert!(matches!(next(&deferred, 1, MINUTE, Some(&old), RETRY), Next::Parked(ParkedBy::MaxAge, _)));
        assert_eq!(
            next(
                &Verdict::Delivered(crate::hub::delivery::verdict::Delivered::default()),
                1,
                MINUTE,
                None,
                RETRY
            ),
            Next::Complete
        );
    }
}

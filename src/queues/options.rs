//! How a queue runs its messages: time, attempts, concurrency, priority, how long they are kept.

use super::uniqueness::Uniqueness;
use crate::http::reader::Reader;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Attempts at a message whose worker was lost or whose handler asked for another try, unless the definition
/// says otherwise.
const ATTEMPTS: u16 = 3;

/// How long an attempt may take in a process of ours, unless the definition says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The `options` of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `timeout`: how long one attempt may take, the time it awaits services included. 1 ms to 24 h. Absent, 30 s;
    /// but a remote worker may take any time, as long as its heartbeats come.
    pub timeout: Option<Duration>,
    /// `concurrency`: how many messages of the queue one process runs at a time, or all remote workers together have
    /// claimed. 1 to 10,000. Absent, one a process, and any number of remote workers: how many there are is their
    /// owner's decision.
    pub concurrency: Option<u16>,
    /// `max_attempts`: 1 to 1,000; what its absence means depends on the failure, see
    /// [`Terms::may_try_again`].
    pub max_attempts: Option<u16>,
    /// `retry.base`: the pause before the second attempt; it grows from there. 1 ms to 24 h.
    pub retry_base: Duration,
    /// `retry.cap`: the longest pause. `base` to 7 days.
    pub retry_cap: Duration,
    /// `priority`: of messages that are pushed without one; -100 to 100, higher first.
    pub priority: i16,
    /// `retention`: how long a message is kept once it has ended, at least; it goes with its week. 1 h to 10
    /// years.
    pub retention: Duration,
    /// `unique`: which messages are the same, and what becomes of a push that finds one.
    pub unique: Option<Uniqueness>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: None,
            concurrency: None,
            max_attempts: None,
            retry_base: Duration::from_secs(1),
            retry_cap: Duration::from_mins(5),
            priority: 0,
            retention: 30 * DAY,
            unique: None,
        }
    }
}

/// What decides how a message goes on whose attempt has ended: as its definition said when that attempt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// `max_attempts`.
    pub max_attempts: Option<u16>,
    /// `retry.base`.
    pub retry_base: Duration,
    /// `retry.cap`.
    pub retry_cap: Duration,
}

/// Why an attempt did not complete its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Whoever handled it said that trying again is of no use: an HTTP 4xx, a remote worker's `retry: false`.
    Final,
    /// The handler rejected it, or did not come to an end in time. The source document knows no retry of
    /// that: one attempt, unless `max_attempts` says more.
    Rejected,
    /// The handler asked for another try: an HTTP 5xx or no answer, a remote worker's `retry: true`.
    Transient,
    /// The worker died or lost its lease, which says nothing about the message.
    WorkerLost,
}

impl Options {
    /// How long an attempt may take in a process of ours.
    pub fn attempt_timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How many messages a process of ours runs at a time.
    pub fn process_concurrency(&self) -> usize {
        self.concurrency.map_or(1, usize::from)
    }
}

impl Terms {
    /// Whether a message whose attempt number `attempt` (counted from 1) ended so is tried again.
    ///
    /// `max_attempts` counts attempts of every kind together. With `max_attempts` 1 a message runs at most
    /// once, whatever happens to its worker.
    pub fn may_try_again(&self, failure: Failure, attempt: u16) -> bool {
        let allowed = match failure {
            Failure::Final => 1,
            Failure::Rejected => self.max_attempts.unwrap_or(1),
            Failure::Transient | Failure::WorkerLost => self.max_attempts.unwrap_or(ATTEMPTS),
        };
        failure != Failure::Final && attempt < allowed
    }
}

impl Options {
    /// What decides about the ends of attempts that begin now.
    pub fn terms(&self) -> Terms {
        let Self { max_attempts, retry_base, retry_cap, .. } = *self;
        Terms { max_attempts, retry_base, retry_cap }
    }

    /// Reads the `options` of a definition; what breaks a rule is noted in `reader` and left at its default.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let (millisecond, year) = (Duration::from_millis(1), 365 * DAY);
        let timeout = reader.duration("timeout", millisecond..=DAY);
        let retention = reader.duration("retention", HOUR..=10 * year).unwrap_or(default.retention);
        let concurrency = reader.integer("concurrency", 1..=10_000);
        let max_attempts = reader.integer("max_attempts", 1..=1_000);
        let priority = reader.integer("priority", -100..=100).unwrap_or(default.priority);
        let (mut retry_base, mut retry_cap) = (None, None);
        reader.object("retry", |retry| {
            retry_base = retry.duration("base", millisecond..=DAY);
            retry_cap = retry.duration("cap", millisecond..=7 * DAY);
            // The one that is absent moves out of the way of the other.
            if let (Some(base), Some(cap)) = (retry_base, retry_cap)
                && base > cap
            {
                retry.note("/cap", "minimum", "must not be shorter than base");
            }
        });
        let mut unique = None;
        reader.object("unique", |reader| unique = Some(Uniqueness::read(reader, retention)));
        let retry_base = retry_base.unwrap_or_else(|| default.retry_base.min(retry_cap.unwrap_or(DAY)));
        let retry_cap = retry_cap.unwrap_or_else(|| default.retry_cap.max(retry_base));
        Self { timeout, concurrency, max_attempts, retry_base, retry_cap, priority, retention, unique }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_number_a_rejection_is_the_end_and_a_lost_worker_has_two_more_tries() {
        let default = Options::default();
        let tries = |options: &Options, failure| {
            (1..100).filter(|&n| options.terms().may_try_again(failure, n)).count()
        };
        assert_eq!(tries(&default, Failure::Final), 0);
        assert_eq!(tries(&default, Failure::Rejected), 0);
        assert_eq!(tries(&default, Failure::Transient), 2);
        assert_eq!(tries(&default, Failure::WorkerLost), 2);
        let five = Options { max_attempts: Some(5), ..default };
        assert_eq!(tries(&five, Failure::Final), 0);
        for failure in [Failure::Rejected, Failure::Transient, Failure::WorkerLost] {
            assert_eq!(tries(&five, failure), 4);
        }
        let once = Options { max_attempts: Some(1), ..five };
        assert_eq!(tries(&once, Failure::WorkerLost), 0);
    }
}

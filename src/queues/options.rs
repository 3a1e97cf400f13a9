//! How a queue runs its messages: time, attempts, concurrency, priority, how long they are kept.

use super::retry::{Retry, Terms};
use super::uniqueness::Uniqueness;
use crate::http::reader::Reader;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

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
    /// `max_attempts` and `retry`: what decides about the ends of attempts that begin now.
    pub terms: Terms,
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
            terms: Terms::default(),
            priority: 0,
            retention: 30 * DAY,
            unique: None,
        }
    }
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

    /// Reads the `options` of a definition; what breaks a rule is noted in `reader` and left at its default.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let (millisecond, year) = (Duration::from_millis(1), 365 * DAY);
        let timeout = reader.duration("timeout", millisecond..=DAY);
        let retention = reader.duration("retention", HOUR..=10 * year).unwrap_or(default.retention);
        let concurrency = reader.integer("concurrency", 1..=10_000);
        let max_attempts = reader.integer("max_attempts", 1..=1_000);
        let priority = reader.integer("priority", -100..=100).unwrap_or(default.priority);
        let mut retry = Retry::default();
        reader.object("retry", |reader| retry = Retry::read(reader));
        let terms = retry.terms(max_attempts);
        let mut unique = None;
        reader.object("unique", |reader| unique = Some(Uniqueness::read(reader, retention)));
        Self { timeout, concurrency, terms, priority, retention, unique }
    }
}

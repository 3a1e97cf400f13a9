//! What decides how a message goes on whose attempt has ended.

use super::pause::{Curve, Pause};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Attempts at a message whose worker was lost or whose handler asked for another try, unless the definition
/// says otherwise.
const ATTEMPTS: u16 = 3;

/// For how long a message is put off without a count, unless the definition says otherwise.
const SNOOZES: Duration = Duration::from_hours(30 * 24);

/// What decides how a message goes on whose attempt has ended: as its definition said when that attempt began. Cheap
/// to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms(Arc<Rules>);

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rules {
    general: Rule,
    /// By the names of errors; none: the error is final.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    by: BTreeMap<String, Option<Rule>>,
}

/// What holds for errors of one name, or for all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_attempts: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<Duration>,
    pub(super) pause: Pause,
}

impl Default for Rule {
    fn default() -> Self {
        let curve = Curve::Exponential { base: Duration::from_secs(1), cap: Duration::from_mins(5) };
        Self { max_attempts: None, max_age: None, pause: Pause { curve, jitter: 1000 } }
    }
}

/// Why an attempt did not complete its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The handler rejected it, or did not come to an end in time. The source document knows no retry of
    /// that: one attempt, unless `max_attempts` says more.
    Rejected,
    /// The handler asked for another try: an HTTP 5xx or no answer, a remote worker's `retry: true`.
    Transient,
    /// The worker died or lost its lease, which says nothing about the message.
    WorkerLost,
    /// The handler put the message off: the attempt does not count.
    Snoozed,
}

/// What a failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The message ends in ERROR.
    Final,
    /// It is tried again, unless it has been tried for this time by then.
    Again {
        /// By the definition.
        pause: Duration,
        /// Counted from the start of its first attempt.
        within: Option<Duration>,
    },
}

impl Terms {
    pub(super) fn new(general: Rule, by: BTreeMap<String, Option<Rule>>) -> Self {
        Self(Arc::new(Rules { general, by }))
    }

    /// The attempts that a message has as far as its handler is told: where `max_attempts` is absent, those of one
    /// that asks for another try.
    pub fn max_attempts(&self) -> u16 {
        self.0.general.max_attempts.unwrap_or(ATTEMPTS)
    }

    /// Whether the name of an error decides anything.
    pub fn ask_names(&self) -> bool {
        !self.0.by.is_empty()
    }

    /// What attempt number `attempt` (counted from 1) comes to, which ended so, with an error of this name.
    ///
    /// `max_attempts` counts attempts of every kind together. With `max_attempts` 1 a message runs at most
    /// once, whatever happens to its worker.
    pub fn decide(&self, failure: Failure, name: Option<&str>, attempt: u16) -> Decision {
        let rule = match name.and_then(|name| self.0.by.get(name)) {
            Some(None) => return Decision::Final,
            Some(Some(rule)) => rule,
            None => &self.0.general,
        };
        let allowed = match failure {
            Failure::Rejected => rule.max_attempts.unwrap_or(1),
            Failure::Transient | Failure::WorkerLost => rule.max_attempts.unwrap_or(ATTEMPTS),
            Failure::Snoozed => u16::MAX,
        };
        if attempt >= allowed && failure != Failure::Snoozed {
            return Decision::Final;
        }
        let within = if failure == Failure::Snoozed { rule.max_age.or(Some(SNOOZES)) } else { rule.max_age };
        Decision::Again { pause: rule.pause.after(attempt), within }
    }

    /// The pause after an attempt that never began.
    pub fn backoff(&self, attempt: u16) -> Duration {
        self.0.general.pause.after(attempt)
    }
}

// `Arc` is serialized as what it holds; serde does so only with a feature that would hold for every crate here.
impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Rules::deserialize(deserializer).map(|rules| Self(Arc::new(rules)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use Failure::{Rejected, Snoozed, Transient, WorkerLost};

    fn tries(terms: &Terms, failure: Failure, name: Option<&str>) -> usize {
        (1..200).take_while(|&attempt| terms.decide(failure, name, attempt) != Decision::Final).count()
    }

    #[test]
    fn without_a_number_a_rejection_is_the_end_and_a_lost_worker_has_two_more_tries() {
        let default = Terms::default();
        assert_eq!(tries(&default, Rejected, None), 0);
        assert_eq!(tries(&default, Transient, None), 2);
        assert_eq!(tries(&default, WorkerLost, None), 2);
        let with = |max_attempts| {
            Terms::new(Rule { max_attempts: Some(max_attempts), ..Rule::default() }, BTreeMap::new())
        };
        for failure in [Rejected, Transient, WorkerLost] {
            assert_eq!(tries(&with(5), failure, None), 4);
            assert_eq!(tries(&with(1), failure, None), 0);
        }
    }

    #[test]
    fn what_is_put_off_is_not_counted_and_not_put_off_for_ever() {
        let default = Terms::default();
        assert_eq!(tries(&default, Snoozed, None), 199);
        let within = |terms: &Terms| match terms.decide(Snoozed, None, 1) {
            Decision::Again { within, .. } => within,
            Decision::Final => None,
        };
        assert_eq!(within(&default), Some(SNOOZES));
        let max_age = Some(Duration::from_hours(48));
        assert_eq!(within(&Terms::new(Rule { max_age, ..Rule::default() }, BTreeMap::new())), max_age);
    }

    #[test]
    fn the_name_of_an_error_may_decide() {
        let curve = Curve::Fixed { base: Duration::from_secs(30) };
        let limited = Rule { max_attempts: Some(100), max_age: None, pause: Pause { curve, jitter: 0 } };
        let by = BTreeMap::from([("NotFound".to_owned(), None), ("RateLimited".to_owned(), Some(limited))]);
        let terms = Terms::new(Rule::default(), by);
        assert_eq!(tries(&terms, Transient, Some("NotFound")), 0);
        assert_eq!(terms.decide(Snoozed, Some("NotFound"), 1), Decision::Final);
        assert_eq!(tries(&terms, Rejected, Some("RateLimited")), 99);
        let pause = Duration::from_secs(30);
        assert_eq!(terms.decide(Rejected, Some("RateLimited"), 7), Decision::Again { pause, within: None });
        assert_eq!(tries(&terms, Rejected, Some("Another")), 0);
        let kept = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<Terms>(&kept).unwrap(), terms);
    }
}

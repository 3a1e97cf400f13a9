//! Judges a history: pure, so that small histories can test it (`tests.rs`).

mod ends;
mod logs;
mod pushes;
mod starts;
pub(crate) mod tests;

use crate::history::{Event, Phase, What};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an endpoint may still be sent an item after its end was seen: what was on the wire by then.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);
/// How long a step of the database's clock may take until everybody has noticed it.
const CLOCK_SETTLES: Duration = Duration::from_secs(3);

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which promise is broken.
    pub(crate) kind: &'static str,
    /// For whom, and what the history says of it.
    pub(crate) story: String,
}

impl Finding {
    pub(super) fn new(kind: &'static str, story: String) -> Self {
        Self { kind, story }
    }
}

/// Every promise, in the order of the summary.
pub(crate) const KINDS: [&str; 20] = [
    "lost",
    "unfinished",
    "ended in error",
    "unexpected",
    "stored twice",
    "a key made two",
    "ended twice",
    "an acknowledged end does not count",
    "a refused end counts",
    "an acknowledged claim does not hold",
    "claimed twice",
    "claimed more than asked",
    "started after its end",
    "out of order in its line",
    "children twice",
    "children lost",
    "a hole in a log",
    "a repeat in a log",
    "left over",
    "not idle",
];

/// What breaks a promise in this history. A remote claim lives for `lease`.
pub(crate) fn check(events: &[Event], lease: Duration) -> Vec<Finding> {
    let mut found = Vec::new();
    pushes::check(events, &mut found);
    ends::check(events, lease, &mut found);
    starts::check(events, &mut found);
    logs::check(events, &mut found);
    for event in events {
        match &event.what {
            What::Left { table, rows } if *rows > 0 => {
                found.push(Finding::new("left over", format!("{rows} rows of {table}")));
            }
            What::Rest { idle: false, seconds } => {
                found.push(Finding::new("not idle", format!("after {seconds} s")));
            }
            _ => {}
        }
    }
    found
}

/// How many findings there are of each promise.
pub(crate) fn counts(findings: &[Finding]) -> BTreeMap<&'static str, usize> {
    let mut counts: BTreeMap<&'static str, usize> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    for finding in findings {
        *counts.entry(finding.kind).or_insert(0) += 1;
    }
    counts
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A moment in seconds, for stories.
fn seconds(at: u64) -> String {
    format!("{}.{:03} s", at / 1_000_000, at / 1_000 % 1_000)
}

/// When nemeses of this name did something.
fn moments(events: &[Event], names: &[&str]) -> Vec<u64> {
    let is_it =
        |event: &&Event| matches!(&event.what, What::Nemesis { name, .. } if names.contains(&name.as_str()));
    events.iter().filter(is_it).map(|event| event.at).collect()
}

/// Whether the database's clock was steady from one moment to another.
fn is_steady(steps: &[u64], from: u64, to: u64) -> bool {
    steps.iter().all(|step| *step > to || step + micros(CLOCK_SETTLES) < from)
}

/// When each claim was asked for, by its number.
fn asked(events: &[Event]) -> BTreeMap<u64, u64> {
    let asked = events.iter().filter_map(|event| match &event.what {
        What::Claim { op, phase: Phase::Invoke, .. } => Some((*op, event.at)),
        _ => None,
    });
    asked.collect()
}

//! What was said of an end is so; a claim that was acknowledged holds, and nobody has the same one.

use super::{Finding, asked, is_steady, micros, moments, seconds};
use crate::history::{Event, Past, Phase, Taken, What};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A message as it stands at the end.
struct Last<'a> {
    status: &'a str,
    lease: Option<&'a str>,
    mark: Option<&'a str>,
    past: &'a [Past],
}

impl Last<'_> {
    /// Whether this end is what is stored.
    fn has(&self, lease: &str, complete: bool, mark: &str) -> bool {
        if complete {
            return (self.status, self.lease, self.mark) == ("COMPLETE", Some(lease), Some(mark));
        }
        let failed = self.past.iter().any(|past| (past.lease.as_str(), past.mark.as_str()) == (lease, mark));
        failed || (self.status, self.lease, self.mark) == ("ERROR", Some(lease), Some(mark))
    }
}

pub(super) fn check(events: &[Event], lease: Duration, found: &mut Vec<Finding>) {
    let last = last(events);
    // Most of a lease: what is surely still its holder's.
    let surely = micros(lease * 8 / 10);
    let steps = moments(events, &["clock"]);
    let mut unsure: BTreeSet<&str> = BTreeSet::new();
    let mut ended: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in events {
        match &event.what {
            What::End { phase, id, lease, complete, mark, claimed, .. } => {
                let words = || format!("{id} under {lease} ({mark}), said at {}", seconds(event.at));
                let counts = last.get(id.as_str()).map(|last| last.has(lease, *complete, mark));
                match (phase, counts) {
                    (Phase::Ok, Some(false)) => {
                        found.push(Finding::new("an acknowledged end does not count", words()));
                    }
                    (Phase::Fail, Some(true)) => found.push(Finding::new("a refused end counts", words())),
                    (Phase::Fail, Some(false))
                        if event.at < claimed + surely
                            && !unsure.contains(lease.as_str())
                            && is_steady(&steps, *claimed, event.at) =>
                    {
                        let kind = "an acknowledged claim does not hold";
                        found.push(Finding::new(
                            kind,
                            format!("{}, claimed at {}", words(), seconds(*claimed)),
                        ));
                    }
                    _ => {}
                }
                if *phase == Phase::Unknown {
                    unsure.insert(lease);
                }
                if *complete && *phase == Phase::Ok {
                    ended.entry(id).or_default().insert(lease);
                }
            }
            What::Say { phase: Phase::Ok, job, last: true, mark, .. } => {
                ended.entry(job).or_default().insert(mark);
            }
            What::Claim { phase: Phase::Ok, from, max, taken, .. } if taken.len() > *max => {
                let words = format!("{} of {from} instead of {max} at {}", taken.len(), seconds(event.at));
                found.push(Finding::new("claimed more than asked", words));
            }
            What::LastMessage { id, tag, status, mark, .. } if status == "ERROR" => {
                found.push(Finding::new("ended in error", format!("{tag}, {id}: {mark:?}")));
            }
            What::LastDelivery { id, tag, delivered, .. } if *delivered > 1 => {
                found.push(Finding::new(
                    "ended twice",
                    format!("the delivery {id} of {tag}, {delivered} times"),
                ));
            }
            _ => {}
        }
    }
    for (id, ends) in ended.iter().filter(|(_, ends)| ends.len() > 1) {
        found.push(Finding::new("ended twice", format!("{id}, acknowledged under {ends:?}")));
    }
    for (id, last) in &last {
        let both = last.past.iter().find(|past| Some(past.lease.as_str()) == last.lease);
        if let Some(both) = both {
            found.push(Finding::new(
                "ended twice",
                format!("{id} under {}: failed and {}", both.lease, last.status),
            ));
        }
    }
    claimed_twice(events, surely, &steps, found);
}

fn last(events: &[Event]) -> BTreeMap<&str, Last<'_>> {
    let last = events.iter().filter_map(|event| match &event.what {
        What::LastMessage { id, status, lease, mark, past, .. } => {
            let last = Last { status, lease: lease.as_deref(), mark: mark.as_deref(), past };
            Some((id.as_str(), last))
        }
        _ => None,
    });
    last.collect()
}

/// Two hold an item at the same moment, although nobody ended the first claim.
fn claimed_twice(events: &[Event], surely: u64, steps: &[u64], found: &mut Vec<Finding>) {
    let asked = asked(events);
    let mut let_go: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let lease = match &event.what {
            What::End { phase: Phase::Invoke, lease, .. } => lease,
            What::Say { phase: Phase::Invoke, job, last: true, .. } => job,
            _ => continue,
        };
        let_go.entry(lease).or_insert(event.at);
    }
    let mut held: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for event in events {
        let What::Claim { op, phase: Phase::Ok, taken, .. } = &event.what else { continue };
        let asked = asked.get(op).copied().unwrap_or(event.at);
        for Taken { id, lease, .. } in taken {
            if let Some((first, since)) = held.insert(id, (lease, asked)) {
                let is_free =
                    [first, id.as_str()].iter().any(|name| let_go.get(name).is_some_and(|at| *at < event.at));
                if first != lease
                    && !is_free
                    && event.at < since + surely
                    && is_steady(steps, since, event.at)
                {
                    let words = format!(
                        "{id} under {first} at {} and {lease} at {}",
                        seconds(since),
                        seconds(event.at)
                    );
                    found.push(Finding::new("claimed twice", words));
                }
            }
        }
    }
}

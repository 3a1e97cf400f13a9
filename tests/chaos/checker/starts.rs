//! What has ended is not started again, and of a line only the head is.

use super::{Finding, MARGIN, asked, micros, seconds};
use crate::history::{Event, Phase, What};
use std::collections::BTreeMap;

pub(super) fn check(events: &[Event], found: &mut Vec<Finding>) {
    let (ended, asked) = (ended(events), asked(events));
    let mut late = |id: &str, started: u64, allowed: u64, who: &str| {
        if let Some(end) = ended.get(id)
            && started > end + allowed
        {
            let words = format!("{id}: ended by {}, started at {} by {who}", seconds(*end), seconds(started));
            found.push(Finding::new("started after its end", words));
        }
    };
    for event in events {
        match &event.what {
            What::Start { id, .. } => late(id, event.at, micros(MARGIN), "a request to its endpoint"),
            What::Claim { op, phase: Phase::Ok, taken, .. } => {
                // Whoever asked before the end may have been given it before, and told late.
                let asked = asked.get(op).copied().unwrap_or(event.at);
                for taken in taken {
                    late(&taken.id, asked, 0, "a claim");
                }
            }
            _ => {}
        }
    }
    lines(events, found);
}

/// By when each item is known to have ended.
fn ended(events: &[Event]) -> BTreeMap<&str, u64> {
    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let ids: Vec<&str> = match &event.what {
            What::End { phase: Phase::Ok, complete: true, id, .. } => vec![id],
            What::Say { phase: Phase::Ok, last: true, job, .. } => vec![job],
            What::Ended { ids } => ids.iter().map(String::as_str).collect(),
            _ => continue,
        };
        for id in ids {
            ended.entry(id).or_insert(event.at);
        }
    }
    ended
}

/// A line is pushed by one client, one message after another, and started in this order, each to its end.
fn lines(events: &[Event], found: &mut Vec<Finding>) {
    let mut pushed: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, event) in events.iter().enumerate() {
        if let What::Push { phase: Phase::Invoke, tags, .. } = &event.what {
            for tag in tags {
                pushed.entry(tag).or_insert(place);
            }
        }
    }
    let mut lines: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for event in events {
        if let What::Start { tag, line: Some(line), .. } = &event.what {
            let starts = lines.entry(line).or_default();
            if starts.last().is_none_or(|(last, _)| last != tag) {
                starts.push((tag, event.at));
            }
        }
    }
    for (line, starts) in lines {
        for pair in starts.windows(2) {
            let ([(first, _), (second, at)], place) = ([pair[0], pair[1]], |tag: &str| pushed.get(tag));
            if place(first) > place(second) {
                let words = format!("{line}: {second} at {} after {first}", seconds(at));
                found.push(Finding::new("out of order in its line", words));
            }
        }
    }
}

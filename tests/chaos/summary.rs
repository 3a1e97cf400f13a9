//! What is said at the end: how much was done to whom, and what was found.

use crate::checker;
use crate::history::{Event, Phase, What};
use crate::run::Judged;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The most stories of one kind.
const STORIES: usize = 5;

/// How often each thing was done, by what came of it.
fn doses(events: &[Event]) -> BTreeMap<String, [usize; 3]> {
    let mut doses: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for event in events {
        let (name, phase, count) = match &event.what {
            What::Push { phase, into, tags, .. } => (format!("pushes into {into}"), *phase, tags.len()),
            What::Claim { phase, from, .. } => (format!("claims of {from}"), *phase, 1),
            What::Beat { phase, .. } => ("heartbeats".to_owned(), *phase, 1),
            What::End { phase, .. } => ("ends".to_owned(), *phase, 1),
            What::Say { phase, .. } => ("broadcasts".to_owned(), *phase, 1),
            What::Read { phase, .. } => ("reads of logs".to_owned(), *phase, 1),
            What::Start { .. } => ("requests to endpoints".to_owned(), Phase::Ok, 1),
            What::Ended { ids } => ("seen to end".to_owned(), Phase::Ok, ids.len()),
            What::Nemesis { phase, name, .. } if name != "all" => (format!("nemesis {name}"), *phase, 1),
            _ => continue,
        };
        let place = match phase {
            Phase::Invoke => continue,
            Phase::Ok => 0,
            Phase::Fail => 1,
            Phase::Unknown => 2,
        };
        doses.entry(name).or_default()[place] += count;
    }
    doses
}

/// The summary of a run.
pub(crate) fn of(judged: &Judged) -> String {
    let mut text = format!("  {:<28} {:>8} {:>8} {:>8}\n", "", "ok", "refused", "unknown");
    for (name, [ok, fail, unknown]) in doses(&judged.events) {
        _ = writeln!(text, "  {name:<28} {ok:>8} {fail:>8} {unknown:>8}");
    }
    for name in &judged.missing {
        _ = writeln!(text, "  nemesis {name:<20} not checked: this machine does not allow it");
    }
    for event in &judged.events {
        if let What::Rest { idle, seconds } = event.what {
            _ = writeln!(text, "  {} after {seconds} s", if idle { "at rest" } else { "not at rest" });
        }
    }
    let counts = checker::counts(&judged.findings);
    let all: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    _ = writeln!(text, "  findings: {}", all.join(", "));
    for (kind, count) in counts.iter().filter(|(_, count)| **count > 0) {
        _ = writeln!(text, "  {kind}: {count}");
        for finding in judged.findings.iter().filter(|finding| finding.kind == *kind).take(STORIES) {
            _ = writeln!(text, "    {}", finding.story);
        }
    }
    text
}

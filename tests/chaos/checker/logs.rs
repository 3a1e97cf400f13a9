//! A job's log: what was said is in it once and in one order, and whoever follows it misses nothing and sees nothing
//! twice.

use super::{Finding, micros, moments, seconds};
use crate::history::{Event, GAP, How, Phase, What};
use std::collections::BTreeMap;
use std::time::Duration;

/// After an answer that got lost, the key's cursor may have moved, or move yet.
const LATE: Duration = Duration::from_secs(40);
/// What moves a key's cursor does not wait for the disk: a crash hands out again what was read just before it.
const UNWRITTEN: Duration = Duration::from_secs(1);

type Logs<'a> = BTreeMap<&'a str, BTreeMap<i64, &'a str>>;

pub(super) fn check(events: &[Event], found: &mut Vec<Finding>) {
    let mut logs: Logs<'_> = BTreeMap::new();
    for event in events {
        if let What::LastJob { id, log, .. } = &event.what {
            for (place, (seq, _)) in log.iter().enumerate() {
                if usize::try_from(*seq).ok() != Some(place + 1) {
                    found.push(Finding::new(
                        "a hole in a log",
                        format!("{id}: {seq} stands at {}", place + 1),
                    ));
                }
            }
            logs.insert(id, log.iter().map(|(seq, mark)| (*seq, mark.as_str())).collect());
        }
    }
    said(events, &logs, found);
    let crashes = moments(events, &["kill-postgres", "fill-disk"]);
    let mut readers: BTreeMap<(&str, &str), Reader> = BTreeMap::new();
    // The last number that anybody was told of each job, now and when each read began.
    let mut told: BTreeMap<&str, i64> = BTreeMap::new();
    let mut told_before: BTreeMap<u64, i64> = BTreeMap::new();
    for event in events {
        let What::Read { op, phase, job, how, after, got } = &event.what else { continue };
        if *phase == Phase::Invoke {
            told_before.insert(*op, told.get(job.as_str()).copied().unwrap_or(0));
        }
        let Some(log) = logs.get(job.as_str()) else { continue };
        let reader = readers.entry((&event.by, job)).or_default();
        match (phase, how) {
            (Phase::Ok, How::After) => {
                // Of a stream each message is a read without a beginning, and its place was told before.
                let least = told_before.remove(op).unwrap_or(*after);
                let got = past_the_end(event, job, *after, least, got, found).unwrap_or(got);
                check_from(event, job, *after, got, log, found);
                let newest = got.iter().filter_map(|(seq, _)| *seq).max().unwrap_or(0);
                told.entry(job).and_modify(|told| *told = newest.max(*told)).or_insert(newest);
            }
            (Phase::Ok, How::Cursor) => reader.took(event, job, got, log, &crashes, found),
            (Phase::Unknown, How::Cursor) => reader.unsure_until = event.at + micros(LATE),
            _ => {}
        }
    }
}

/// What was acknowledged is in the log once; what was refused is not.
fn said(events: &[Event], logs: &Logs<'_>, found: &mut Vec<Finding>) {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (job, log) in logs {
        for mark in log.values().filter(|mark| !mark.is_empty()) {
            *counts.entry((job, mark)).or_insert(0) += 1;
        }
    }
    for event in events {
        let What::Say { phase, job, mark, .. } = &event.what else { continue };
        if !logs.contains_key(job.as_str()) {
            continue;
        }
        match (phase, counts.get(&(job.as_str(), mark.as_str())).copied().unwrap_or(0)) {
            (Phase::Ok, 0) => {
                found.push(Finding::new("lost", format!("{mark}, said about {job} and acknowledged")));
            }
            (Phase::Ok, 2..) => found.push(Finding::new("stored twice", format!("{mark} about {job}"))),
            (Phase::Fail, 1..) => {
                found.push(Finding::new(
                    "unexpected",
                    format!("{mark} about {job} was refused or rolled back"),
                ));
            }
            _ => {}
        }
    }
}

/// A place beyond the end is answered with a gap that names the end: no sooner one than `least`, which had been told
/// before. Returns what was read beside it, if that is what was said.
fn past_the_end<'g>(
    event: &Event,
    job: &str,
    after: i64,
    least: i64,
    got: &'g [(Option<i64>, String)],
    found: &mut Vec<Finding>,
) -> Option<&'g [(Option<i64>, String)]> {
    let ((Some(end), mark), rest) = got.split_first()? else { return None };
    if mark != GAP || *end >= after {
        return None;
    }
    if *end < least {
        let words = format!(
            "{job}: {} was told at {} that it ends at {end}, after {least} was told",
            event.by,
            seconds(event.at)
        );
        found.push(Finding::new("a hole in a log", words));
    }
    Some(rest)
}

/// What was read from a place is what stands there.
fn check_from(
    event: &Event,
    job: &str,
    after: i64,
    got: &[(Option<i64>, String)],
    log: &BTreeMap<i64, &str>,
    found: &mut Vec<Finding>,
) {
    let mut last = after;
    for (seq, mark) in got {
        let seq = seq.unwrap_or(0);
        if seq <= last {
            let words = format!("{job}: {} was told {seq} after {last} at {}", event.by, seconds(event.at));
            found.push(Finding::new("a repeat in a log", words));
        } else if seq > last + 1 || log.get(&seq).is_some_and(|there| there != mark) {
            let words =
                format!("{job}: {} was told {seq} ({mark}) after {last} at {}", event.by, seconds(event.at));
            found.push(Finding::new("a hole in a log", words));
        }
        last = seq;
    }
}

/// Who reads with a key.
#[derive(Default)]
struct Reader {
    /// The number of the last message it was told.
    last: i64,
    /// When that was.
    at: u64,
    unsure_until: u64,
}

impl Reader {
    fn took(
        &mut self,
        event: &Event,
        job: &str,
        got: &[(Option<i64>, String)],
        log: &BTreeMap<i64, &str>,
        crashes: &[u64],
        found: &mut Vec<Finding>,
    ) {
        let had_crash = crashes.iter().any(|at| at + micros(UNWRITTEN) > self.at && *at < event.at);
        for (_, mark) in got {
            if mark == GAP {
                let words = format!("{job}: {} was told of a gap at {}", event.by, seconds(event.at));
                found.push(Finding::new("a hole in a log", words));
                continue;
            }
            // What the server itself says has no mark: it can only be counted.
            let following = log.range(self.last + 1..).next().map(|(seq, _)| *seq);
            let seq = log
                .iter()
                .find(|(_, there)| !mark.is_empty() && **there == mark)
                .map(|(seq, _)| *seq)
                .or(following);
            let Some(seq) = seq else { continue };
            let words = || {
                format!(
                    "{job}: {} was told {seq} ({mark}) after {} at {}",
                    event.by,
                    self.last,
                    seconds(event.at)
                )
            };
            if seq <= self.last && !had_crash {
                found.push(Finding::new("a repeat in a log", words()));
            } else if seq > self.last + 1 && event.at > self.unsure_until {
                found.push(Finding::new("a hole in a log", words()));
            }
            self.last = seq;
        }
        if !got.is_empty() {
            self.at = event.at;
        }
    }
}

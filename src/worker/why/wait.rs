//! What keeps an item waiting that nobody has claimed.

use super::reason::{Cause, Holder, Reason, moment};
use crate::worker::store::LastAsker;
use crate::worker::store::why::{Ahead, Keeper, LOOKED_AT, Process, Taken};
use chrono::{DateTime, TimeDelta, Utc};

/// Whoever waits for items over HTTP is noted every ten seconds, by a loop that goes round every 2.5 s: who was not noted
/// for so long does not ask.
const UNASKED: TimeDelta = TimeDelta::seconds(30);
/// What is due longer than this, and yet scheduled, somebody ought to have moved.
const OVERDUE: TimeDelta = TimeDelta::seconds(10);
/// So many of those that take places are named.
const NAMED: usize = 10;

/// Whether anybody lives who runs it: `able` says who can, `needs` what for.
pub fn who_runs(processes: &[Process], able: impl Fn(&Process) -> bool, needs: &str) -> Option<Reason> {
    if processes.is_empty() {
        let none = Reason::new(Cause::NoProcess, "No process lives that runs anything.");
        return Some(none.act("start `postrider serve` or `postrider worker`"));
    }
    let able: Vec<&Process> = processes.iter().filter(|process| able(process)).collect();
    let Some(newest) = able.iter().max_by_key(|process| process.round_at) else {
        let detail = format!("No process lives that has {needs}.");
        let none = Reason { of: Some(needs.to_owned()), ..Reason::new(Cause::NoRunner, detail) };
        return Some(none.act("start the program that registers it, or correct the queue's handler"));
    };
    if !able.iter().all(|process| process.is_behind) {
        return None;
    }
    let detail = format!(
        "The claim loop of {} is behind: it last went round at {}.",
        newest.name,
        moment(newest.round_at)
    );
    let behind = Reason {
        since: Some(newest.round_at),
        by: Some(newest.name.clone()),
        ..Reason::new(Cause::ClaimLoopBehind, detail)
    };
    Some(behind.see("/readyz").act("look at its log and at what holds the database up: `postrider doctor`"))
}

/// The word by which a process tells that it has this key.
pub fn runs_key(key: &str) -> String {
    format!("key {key}")
}

/// Whether a process lives that has one of the `keys` that it needs, each with what is sealed with it.
pub fn no_key<'a>(
    processes: &[Process],
    keys: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Option<Reason> {
    if processes.is_empty() {
        return None;
    }
    let is_missing = |key: &str| {
        let word = runs_key(key);
        !processes.iter().any(|process| process.runs.contains(&word))
    };
    let (_, of) = keys.into_iter().find(|(key, _)| is_missing(key))?;
    let detail = format!("No process that lives has the key that the secrets of {of} are sealed with.");
    let missing = Reason { of: Some(of.to_owned()), ..Reason::new(Cause::NoKey, detail) };
    Some(missing.act("start a process with that key in POSTRIDER_SECRET_KEY, or put the secrets again"))
}

/// Whether remote workers ask for it; `asker` is the last who did.
pub fn nobody_asks(asker: Option<&LastAsker>, now: DateTime<Utc>, claim: &str) -> Option<Reason> {
    let detail = match asker {
        Some(last) if now - last.at <= UNASKED => return None,
        Some(last) => {
            let by = last.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
            format!("Nobody claims: a worker last asked at {}{by}.", moment(last.at))
        }
        None => "Nobody claims: no worker has asked for it yet.".to_owned(),
    };
    let (since, by) = asker.map(|last| (last.at, last.by.clone())).unzip();
    let nobody = Reason { since, by: by.flatten(), ..Reason::new(Cause::NobodyClaims, detail) };
    Some(nobody.act(format!("start a worker: it asks by POST {claim}")))
}

/// What waits for `run_at`, for `cause`: and that it is overdue, if it is.
pub fn later(reason: Reason, run_at: DateTime<Utc>, now: DateTime<Utc>) -> Reason {
    if run_at + OVERDUE >= now {
        return Reason { until: Some(run_at), ..reason };
    }
    let detail = format!("It has been due since {}, and nobody has made it ready.", moment(run_at));
    let overdue = Reason { since: Some(run_at), ..Reason::new(Cause::ClaimLoopBehind, detail) };
    overdue
        .see("/readyz")
        .act("look at the workers' logs and at what holds the database up: `postrider doctor`")
}

/// How many may run at a time.
#[derive(Debug, Clone, Copy)]
pub enum Places<F> {
    /// Over all remote workers.
    InAll(usize),
    /// In each process, of those that can run it.
    Each(F),
}

/// Whether as many run as may.
pub fn places<F: Fn(&Process) -> Option<usize>>(
    taken: &Taken,
    processes: &[Process],
    places: &Places<F>,
    what: &str,
) -> Option<Reason> {
    let most = match places {
        Places::InAll(most) => (taken.count >= as_count(*most)).then_some(*most)?,
        Places::Each(room) => {
            let mut most = 0;
            for process in processes {
                let Some(room) = room(process) else { continue };
                let of_it = taken.by.iter().filter(|by| by.worker == Some(process.id)).map(|by| by.count);
                if !taken.or_more && of_it.sum::<i64>() < as_count(room) {
                    return None;
                }
                most += room;
            }
            (most > 0).then_some(most)?
        }
    };
    let mut holders: Vec<Holder> = taken.by.iter().flat_map(|by| by.first.clone()).collect();
    holders.sort_by_key(|holder| holder.since);
    holders.truncate(NAMED);
    let oldest = holders.first();
    let first = oldest.map_or_else(String::new, |Holder { item, by, since }| {
        let by = by.as_deref().unwrap_or("a worker that is gone");
        format!(": the first by {item}, which {by} has since {}", moment(*since))
    });
    let detail = format!("All {most} places of {what} are taken{first}.");
    Some(Reason {
        since: oldest.map(|holder| holder.since),
        count: Some(taken.count),
        or_more: taken.or_more,
        holders,
        ..Reason::new(Cause::PlacesTaken, detail)
    })
}

/// What is before it where it is ready. It is `None` where that could not be found out in time.
pub fn order(ahead: Option<&Ahead>) -> Vec<Reason> {
    let Some(ahead) = ahead else {
        let detail = "Others may be before it: how many could not be counted within a second.";
        return vec![Reason::new(Cause::Earlier, detail)];
    };
    let or_more = ahead.place.is_none() && ahead.looked_at >= LOOKED_AT;
    if ahead.place.is_none() && !or_more {
        let detail = "It is neither ready, nor scheduled, nor claimed: nobody will run it.";
        return vec![
            Reason::new(Cause::Nowhere, detail).act("report this, with the output of `postrider doctor`"),
        ];
    }
    let before = ahead.place.map_or(ahead.looked_at, |place| place - 1);
    let all_higher = ahead.higher == before;
    let counted = |count: i64, cause, what: &str, or_more: bool| {
        let (number, more) = (grouped(count), if or_more { " or more" } else { "" });
        let verb = if count == 1 { "is" } else { "are" };
        let reason = Reason::new(cause, format!("{number}{more} {what} {verb} before it."));
        (count > 0).then_some(Reason { count: Some(count), or_more, ..reason })
    };
    let higher =
        counted(ahead.higher, Cause::HigherPriority, "with a higher priority", or_more && all_higher);
    let earlier = counted(before - ahead.higher, Cause::Earlier, "that became ready earlier", or_more);
    higher.into_iter().chain(earlier).collect()
}

/// That an open transaction keeps it from being claimed.
pub fn held_back(keeper: &Keeper) -> Reason {
    let Keeper { pid, since, application, state } = keeper;
    let who = pid.map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("process {pid}"));
    let known: Vec<&str> = [application, state].into_iter().flatten().map(String::as_str).collect();
    let about = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
    let open = since.map_or_else(String::new, |since| format!(", open since {},", moment(since)));
    let detail = format!("A transaction of {who}{about}{open} uses it: it starts no sooner than that ends.");
    let kept =
        Reason { since: *since, by: Some(format!("{who}{about}")), ..Reason::new(Cause::HeldBack, detail) };
    kept.act(pid.map_or_else(
        || "end it: pg_prepared_xacts names it".to_owned(),
        |pid| format!("end it: SELECT pg_terminate_backend({pid})"),
    ))
}

/// Nothing is in its way.
pub fn due() -> Reason {
    Reason::new(Cause::Due, "Nothing is in its way: it is taken as soon as whoever runs it has room.")
}

fn as_count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as one reads it: 10,000.
fn grouped(count: i64) -> String {
    if count < 1000 {
        return count.to_string();
    }
    format!("{},{:03}", grouped(count / 1000), count % 1000)
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;

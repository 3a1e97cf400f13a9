//! From the facts of a message to the reasons why it is not running.

use super::facts::{Facts, Runs};
use crate::queues::definition::Handler;
use crate::worker::store::why::Process;
use crate::worker::why::{
    Cause, Places, Reason, brief, due, held, held_back, later, moment, no_key, nobody_asks, order, places,
    who_runs,
};

/// Every reason why a message that has not ended is not done; never none.
pub(super) fn reasons(facts: &Facts, runs: &Runs) -> Vec<Reason> {
    if let Some(claim) = &facts.held {
        return vec![held(claim, &facts.processes)];
    }
    let mut found: Vec<Reason> = paused(facts, runs).into_iter().collect();
    found.extend(who(facts, runs));
    found.extend(facts.keeper.as_ref().map(held_back));
    if let Some(Handler::Http { .. }) = &runs.handler {
        let key = facts.row.key_id.as_deref().map(|key| (key, &*runs.queue));
        found.extend(
            no_key(&facts.processes, key).map(|missing| missing.see(format!("/queues/{}", runs.queue))),
        );
    }
    if facts.scheduled.is_some() {
        found.extend(time(facts));
        return found;
    }
    found.extend(full(facts, runs));
    found.extend(order(facts.ahead.as_ref()));
    if found.is_empty() {
        found.push(due());
    }
    found
}

fn paused(facts: &Facts, runs: &Runs) -> Option<Reason> {
    let since = facts.row.paused_at?;
    let by = facts.row.paused_by.clone();
    let who = by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
    let detail = format!("The queue {} is paused since {}{who}.", runs.queue, moment(since));
    let paused = Reason { since: Some(since), by, ..Reason::new(Cause::QueuePaused, detail) };
    Some(paused.see(format!("/queues/{}", runs.queue)).act(format!("POST /queues/{}/resume", runs.queue)))
}

/// Whether anybody runs the messages of its queue.
fn who(facts: &Facts, runs: &Runs) -> Option<Reason> {
    let Runs { queue, handler, .. } = runs;
    let see = format!("/queues/{queue}");
    match handler {
        None => {
            let none = Reason::new(Cause::NoHandler, format!("The queue {queue} has no handler."));
            Some(none.see(see).act(format!("PUT /queues/{queue}/handler")))
        }
        Some(Handler::Worker) => {
            let nobody =
                nobody_asks(facts.asker.as_ref(), facts.now, &format!("/queues/{queue}/claim?wait=20s"));
            nobody.map(|nobody| nobody.see(see))
        }
        Some(handler) => {
            let able = |process: &Process| room(handler, 1, process).is_some();
            let none = who_runs(&facts.processes, able, &needs(handler));
            none.map(|none| if none.see.is_some() { none } else { none.see(see) })
        }
    }
}

/// What a process has that runs this handler, in words.
fn needs(handler: &Handler) -> String {
    match handler {
        Handler::Native { name } => format!("the native handler {name}"),
        Handler::JavaScript { .. } => "JavaScript".to_owned(),
        Handler::Http { .. } | Handler::Worker => "room for it".to_owned(),
    }
}

/// How many messages with this handler a process runs at once, of `most`; `None` if it runs none.
fn room(handler: &Handler, most: usize, process: &Process) -> Option<usize> {
    let has = |word: &str| process.runs.iter().any(|runs| runs == word);
    match handler {
        Handler::Worker => None,
        Handler::Http { .. } => Some(most),
        Handler::Native { name } => has(&format!("native {name}")).then_some(most),
        Handler::JavaScript { .. } => has("javascript").then(|| {
            let children =
                process.runs.iter().find_map(|runs| runs.strip_prefix("javascript ")?.parse().ok());
            most.min(children.unwrap_or(most))
        }),
    }
}

/// That it is for later: since it failed, or since it was pushed so.
fn time(facts: &Facts) -> Option<Reason> {
    let run_at = facts.scheduled?;
    let reason = match &facts.last {
        Some(last) => {
            let (attempt, error) = (i32::from(last.attempt), last.error.as_deref().map(brief));
            let why = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            let (ending, next) = (&last.ending, moment(run_at));
            let detail = format!("Attempt {attempt} ended ({ending}){why}. The next begins at {next}.");
            Reason { attempt: Some(attempt), error, ..Reason::new(Cause::Backoff, detail) }
        }
        None => Reason::new(Cause::Scheduled, format!("It is scheduled for {}.", moment(run_at))),
    };
    Some(later(reason, run_at, facts.now))
}

/// That as many run as may.
fn full(facts: &Facts, runs: &Runs) -> Option<Reason> {
    let what = format!("the queue {}", runs.queue);
    let full = match &runs.handler {
        None => None,
        Some(Handler::Worker) => {
            let all = Places::<fn(&Process) -> Option<usize>>::InAll(runs.concurrency?);
            places(&facts.taken, &facts.processes, &all, &what)
        }
        Some(handler) => {
            let each = Places::Each(|process: &Process| room(handler, runs.in_process, process));
            places(&facts.taken, &facts.processes, &each, &what)
        }
    };
    full.map(|full| {
        full.see(format!("/queues/{}", runs.queue)).act("wait, or raise options.concurrency of the queue")
    })
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;

//! From the facts of a job to the reasons why it is not running.

use super::facts::{Facts, Which};
use crate::worker::why::{Cause, Reason, due, held, later, moment, no_key, nobody_asks, order};

/// Every reason why a job that has not ended is not done; never none.
pub(super) fn reasons(facts: &Facts, which: &Which) -> Vec<Reason> {
    let Which { job_type, id } = which;
    if facts.row.started_at.is_some() {
        let own = [cancelling(facts), asks(facts, which), Some(runs(facts))];
        return own.into_iter().flatten().collect();
    }
    let nobody = nobody_asks(facts.asker.as_ref(), facts.now, &format!("/{job_type}/claim?wait=20s"));
    let mut found: Vec<Reason> =
        nobody.map(|nobody| nobody.see(format!("/{job_type}/{id}"))).into_iter().collect();
    found.extend(no_key(&facts.processes, facts.row.key_id.as_deref().map(|key| (key, "the job"))));
    if let Some(run_at) = facts.scheduled {
        // Somebody had it in hand when it was to be taken.
        let reason = Reason::new(Cause::Scheduled, format!("It is offered again at {}.", moment(run_at)));
        found.push(later(reason, run_at, facts.now));
        return found;
    }
    found.extend(order(facts.ahead.as_ref()));
    if found.is_empty() {
        found.push(due());
    }
    found
}

fn cancelling(facts: &Facts) -> Option<Reason> {
    let until = facts.row.cancel_by?;
    let detail = format!(
        "Its cancellation was requested: its worker has until {} to end it, then it is ended.",
        moment(until)
    );
    Some(Reason { until: Some(until), ..Reason::new(Cause::Cancelling, detail) })
}

fn asks(facts: &Facts, which: &Which) -> Option<Reason> {
    let until = facts.row.answer_by?;
    let what = facts.row.asks.as_deref().unwrap_or("something");
    let since = facts.row.asks_since;
    let said = since.map_or_else(String::new, |since| format!(" since {}", moment(since)));
    let detail =
        format!("It asks its owner for an answer ({what}){said}, and waits until {}.", moment(until));
    let asks = Reason {
        since,
        until: Some(until),
        of: facts.row.asks.clone(),
        ..Reason::new(Cause::AsksOwner, detail)
    };
    let channel = format!("/messages/{}/{}", which.job_type, which.id);
    let answer = format!("its owner answers by POST {channel}/credential_responses");
    Some(asks.see(format!("{channel}/credential_requests")).act(answer))
}

fn runs(facts: &Facts) -> Reason {
    let deadline = facts.row.deadline;
    let Some(claim) = &facts.held else {
        let since = facts.row.started_at;
        let said = since.map_or_else(String::new, |since| format!(" since {}", moment(since)));
        let detail = format!("It runs{said}, by a worker that has not claimed it.");
        return Reason { since, until: deadline, ..Reason::new(Cause::Running, detail) };
    };
    let reason = held(claim, &facts.processes);
    let until = if reason.cause == Cause::Running { deadline } else { reason.until };
    Reason { until, ..reason }
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;

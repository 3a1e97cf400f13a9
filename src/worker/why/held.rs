//! What runs, or is claimed by somebody who has gone silent.

use super::reason::{Cause, Reason, moment};
use crate::worker::store::why::{Held, Process};

/// Why what somebody has claimed has not ended: it runs, or its worker is silent. `processes` are those that live, of which
/// one takes back what a silent worker had.
pub fn held(held: &Held, processes: &[Process]) -> Reason {
    let Held { holder, claimed_at, renewed_at, ends_at, deadline, attempt, is_silent, .. } = held;
    let who = holder.as_ref().map_or_else(String::new, |who| format!(", {who},"));
    let (attempt, by) = (Some(i32::from(*attempt)), holder.clone());
    if *is_silent {
        let alone = processes.is_empty();
        let then =
            if alone { "but no process lives that would take it back" } else { "and then it is taken back" };
        let (heard, ends) = (moment(*renewed_at), moment(*ends_at));
        let detail =
            format!("Its worker{who} was last heard of at {heard}; its lease ends at {ends}, {then}.");
        let silent = Reason {
            since: Some(*renewed_at),
            until: Some(*ends_at),
            by,
            attempt,
            ..Reason::new(Cause::WorkerSilent, detail)
        };
        return silent.act(if alone {
            "start `postrider serve` or `postrider worker`"
        } else {
            "look whether the worker still lives; nothing else has to be done"
        });
    }
    let at = holder.as_ref().map_or_else(String::new, |who| format!(", at {who}"));
    let detail = format!("It runs since {}{at}.", moment(*claimed_at));
    Reason { since: Some(*claimed_at), until: *deadline, by, attempt, ..Reason::new(Cause::Running, detail) }
}

/// Of the claims of an item, the newest that has not ended.
pub fn is_held<'a>(all: &'a [Held], ended: &[uuid::Uuid]) -> Option<&'a Held> {
    all.iter().filter(|held| !ended.contains(&held.lease)).max_by_key(|held| held.claimed_at)
}

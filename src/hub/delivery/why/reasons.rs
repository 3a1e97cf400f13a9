//! From the facts of a delivery to the reasons why it is not running.

use super::facts::Facts;
use super::waits::{full, guarded, limited, time};
use crate::worker::store::why::LOOKED_AT;
use crate::worker::why::{Cause, Reason, due, held, moment, order, who_runs};

/// Every reason why a delivery is not done; none once it has ended and nobody has to decide. `head` are the reasons of the
/// delivery at the head of its line.
pub(super) fn reasons(facts: &Facts, head: &[Reason]) -> Vec<Reason> {
    if !facts.is_pending() {
        return parked(facts).into_iter().collect();
    }
    if let Some(claim) = &facts.held {
        // One that has a slot to come is claimed already.
        return limited(facts).into_iter().chain([held(claim)]).collect();
    }
    let mut found: Vec<Reason> = [mapping_off(facts), endpoint_off(facts)].into_iter().flatten().collect();
    found.extend(who_runs(&facts.processes, |_| true, "room for it"));
    found.extend(line(facts, head));
    if facts.line.is_none() && !facts.row.is_held_back {
        found.extend(guarded(facts));
        found.extend(limited(facts));
        if let Some(run_at) = facts.scheduled {
            let otherwise = found.iter().any(|reason| waits_by_itself(reason.cause));
            found.extend(time(facts, run_at, otherwise));
        } else {
            found.extend(full(facts));
            found.extend(order(facts.ahead.as_ref()));
        }
    }
    if found.is_empty() {
        found.push(due());
    }
    found
}

/// Whether a delivery is put off for this cause without an attempt.
fn waits_by_itself(cause: Cause) -> bool {
    matches!(cause, Cause::CircuitOpen | Cause::ServiceProbing | Cause::RateLimit)
}

/// That somebody has to decide.
fn parked(facts: &Facts) -> Option<Reason> {
    let row = &facts.row;
    if row.status != "ERROR" || row.archived_at.is_some() {
        return None;
    }
    let error = row.last_error.clone().unwrap_or_default();
    let rule = rule(&error);
    let detail = format!("It is parked ({rule}) until somebody decides: {error}.");
    let parked = Reason {
        since: row.finished_at,
        error: Some(error),
        rule: Some(rule.to_owned()),
        of: Some(row.mapping.clone()),
        ..Reason::new(Cause::Parked, detail)
    };
    let address = format!("/stores/{}/deliveries/{}", facts.store, facts.id);
    let act = if rule == "mapping_deleted" {
        format!("POST {address}/archive")
    } else {
        format!("mend the cause, then POST {address}/retry; or POST {address}/archive")
    };
    Some(parked.see(format!("/stores/{}/mappings/{}", facts.store, row.mapping)).act(act))
}

/// Which rule parked a delivery, by the words that it left.
fn rule(error: &str) -> &'static str {
    let ends = |words: &str| error.ends_with(words);
    let after = || {
        error.rsplit_once(" (after ").is_some_and(|(_, end)| end.trim_end_matches(')').contains("attempt"))
    };
    match error {
        "the mapping was deleted" => "mapping_deleted",
        "the message is not there any more" => "message_gone",
        _ if error.starts_with("loop: more than ") => "descendants",
        _ if error.starts_with("loop: ") => "loop",
        _ if ends("(retries are not allowed)") => "retries_not_allowed",
        _ if ends("older than max_age)") || ends("older than max_age") => "max_age",
        _ if after() => "max_attempts",
        _ => "final_answer",
    }
}

fn mapping_off(facts: &Facts) -> Option<Reason> {
    let row = &facts.row;
    (!row.enabled).then(|| {
        let (store, mapping) = (&facts.store, &row.mapping);
        let detail = format!(
            "The mapping {mapping} is switched off; it was last put at {}.",
            moment(row.mapping_put_at)
        );
        let off = Reason {
            since: Some(row.mapping_put_at),
            of: Some(mapping.clone()),
            ..Reason::new(Cause::MappingDisabled, detail)
        };
        let path = format!("/stores/{store}/mappings/{mapping}");
        off.act(format!("PUT {path} with \"enabled\": true")).see(path)
    })
}

fn endpoint_off(facts: &Facts) -> Option<Reason> {
    let (row, terms) = (&facts.row, facts.terms?);
    let endpoint = row.endpoint.as_ref().filter(|_| !terms.enabled)?;
    let put_at =
        row.endpoint_put_at.map_or_else(String::new, |at| format!("; it was last put at {}", moment(at)));
    let off = Reason {
        since: row.endpoint_put_at,
        of: Some(endpoint.clone()),
        ..Reason::new(Cause::EndpointDisabled, format!("The endpoint {endpoint} is switched off{put_at}."))
    };
    let path = format!("/stores/{}/endpoints/{endpoint}", facts.store);
    Some(off.act(format!("PUT {path} with \"enabled\": true")).see(path))
}

fn line(facts: &Facts, head: &[Reason]) -> Option<Reason> {
    let line = facts.line.as_ref()?;
    let why = head.iter().min_by_key(|reason| reason.cause);
    let why = why.map_or_else(String::new, |why| format!(" Of that one: {}", why.detail));
    let detail =
        format!("It waits in line, {} before it; at the head is delivery {}.{why}", line.before, line.head);
    let mut behind_causes: Vec<Cause> = head.iter().map(|reason| reason.cause).collect();
    behind_causes.sort();
    let line = Reason {
        count: Some(line.before),
        or_more: line.before > LOOKED_AT,
        behind: Some(line.head),
        behind_causes,
        of: Some(facts.row.mapping.clone()),
        ..Reason::new(Cause::Line, detail)
    };
    let head = line.behind.unwrap_or_default();
    Some(line.see(format!("/stores/{}/deliveries/{head}/why", facts.store)))
}

#[cfg(test)]
#[path = "reasons_tests.rs"]
mod tests;

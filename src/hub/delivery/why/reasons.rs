//! From the facts of a delivery to the reasons why it is not running.

use super::facts::Facts;
use super::waits::{full, guarded, limited, slot_to_come, time};
use crate::hub::parked_by::ParkedBy;
use crate::worker::store::why::LOOKED_AT;
use crate::worker::why::{Cause, Reason, due, held, moment, no_key, order, who_runs};

/// Every reason why a delivery is not done; none once it has ended and nobody has to decide. `head` are the reasons of the
/// delivery at the head of its line.
pub(super) fn reasons(facts: &Facts, head: &[Reason]) -> Vec<Reason> {
    if !facts.is_pending() {
        return parked(facts).into_iter().collect();
    }
    if let Some(claim) = &facts.held {
        return slot_to_come(facts).into_iter().chain([held(claim, &facts.processes)]).collect();
    }
    let mut found: Vec<Reason> = [mapping_off(facts), endpoint_off(facts)].into_iter().flatten().collect();
    found.extend(who_runs(&facts.processes, |_| true, "room for it"));
    found.extend(key(facts));
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
    matches!(cause, Cause::NoKey | Cause::CircuitOpen | Cause::ServiceProbing | Cause::RateLimit)
}

/// That somebody has to decide.
fn parked(facts: &Facts) -> Option<Reason> {
    let row = &facts.row;
    if row.status != "ERROR" || row.archived_at.is_some() {
        return None;
    }
    let error = row.last_error.clone().unwrap_or_default();
    let rule = row.parked_by.clone().unwrap_or_default();
    let detail = format!("It is parked ({rule}) until somebody decides: {error}.");
    let parked = Reason {
        since: row.finished_at,
        error: Some(error),
        of: Some(row.mapping.clone()),
        ..Reason::new(Cause::Parked, detail)
    };
    let address = format!("/stores/{}/deliveries/{}", facts.store, facts.id);
    let act = if rule == ParkedBy::MappingDeleted.word() {
        format!("POST {address}/archive")
    } else {
        format!("mend the cause, then POST {address}/retry; or POST {address}/archive")
    };
    let parked = Reason { rule: Some(rule), ..parked };
    Some(parked.see(format!("/stores/{}/mappings/{}", facts.store, row.mapping)).act(act))
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
    let path = format!("/stores/{}/endpoints/{endpoint}", facts.store);
    let act = format!("PUT {path} with \"enabled\": true");
    if let Some(off) = switched_off(facts, endpoint) {
        return Some(off.act(format!("mend it, then {act}")).see(path));
    }
    let put_at =
        row.endpoint_put_at.map_or_else(String::new, |at| format!("; it was last put at {}", moment(at)));
    let off = Reason {
        since: row.endpoint_put_at,
        of: Some(endpoint.clone()),
        ..Reason::new(Cause::EndpointDisabled, format!("The endpoint {endpoint} is switched off{put_at}."))
    };
    Some(off.act(act).see(path))
}

/// That its failures switched the endpoint off, by its `disable`.
fn switched_off(facts: &Facts, endpoint: &str) -> Option<Reason> {
    let row = &facts.row;
    let at = row.off_at?;
    let failed = row.off_failures.zip(row.off_since).map_or_else(String::new, |(failures, since)| {
        let error = row.off_error.as_deref().unwrap_or("no reason");
        format!(" {failures} times in a row since {} (the last: {error})", moment(since))
    });
    let detail = format!(
        "The endpoint {endpoint} was switched off at {}, since its attempts had failed{failed}: its disable says so.",
        moment(at)
    );
    Some(Reason {
        since: Some(at),
        count: row.off_failures.map(i64::from),
        error: row.off_error.clone(),
        of: Some(endpoint.to_owned()),
        ..Reason::new(Cause::EndpointDisabled, detail)
    })
}

/// That nobody can open what it is sent with.
fn key(facts: &Facts) -> Option<Reason> {
    let (row, store) = (&facts.row, &facts.store);
    let endpoint = row.key_id.as_deref().zip(row.endpoint.as_deref());
    let of_endpoint = no_key(&facts.processes, endpoint);
    if let Some((missing, (_, name))) = of_endpoint.zip(endpoint) {
        return Some(missing.see(format!("/stores/{store}/endpoints/{name}")));
    }
    let passwords = facts.passwords.iter().map(|(key, name)| (key.as_str(), name.as_str()));
    no_key(&facts.processes, passwords).map(|missing| missing.see(format!("/stores/{store}/parameters")))
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

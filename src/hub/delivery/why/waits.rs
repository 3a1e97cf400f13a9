//! What keeps a delivery waiting that is neither held nor in a line: circuits, rates, its time, places.

use super::facts::Facts;
use crate::flow::circuit::Circuit;
use crate::worker::store::why::Process;
use crate::worker::why::{Cause, Places, Reason, later, moment, places};
use chrono::{DateTime, Utc};

/// That its endpoint, or the service there, is left alone since it fails, or is being tried.
pub(super) fn guarded(facts: &Facts) -> Vec<Reason> {
    let Some(endpoint) = &facts.row.endpoint else { return Vec::new() };
    let see = format!("/stores/{}/endpoints/{endpoint}", facts.store);
    let act = format!("mend it, then PUT {see}: it is tried at once");
    let own = own_circuit(facts).map(|reason| reason.see(&see).act(&act));
    let service = service_circuit(facts, endpoint).map(|reason| reason.see(see).act(act));
    own.into_iter().chain(service).collect()
}

fn circuit(facts: &Facts) -> Circuit {
    Circuit { failures: facts.row.failures.unsigned_abs(), open_until: facts.row.open_until }
}

fn own_circuit(facts: &Facts) -> Option<Reason> {
    let (endpoint, until) = (facts.row.endpoint.as_ref()?, facts.row.open_until?);
    let failures = facts.row.failures;
    let of = Some(endpoint.clone());
    if circuit(facts).is_open(facts.terms?.breaker, facts.now) {
        let detail = format!(
            "The endpoint {endpoint} could not be reached {failures} times in a row and is left alone until {}.",
            moment(until)
        );
        return Some(Reason { until: Some(until), of, ..Reason::new(Cause::CircuitOpen, detail) });
    }
    let detail =
        format!("The endpoint {endpoint} was failing: one delivery at a time tries whether it is back.");
    Some(Reason { since: Some(until), of, ..Reason::new(Cause::ServiceProbing, detail) })
}

fn service_circuit(facts: &Facts, endpoint: &str) -> Option<Reason> {
    let (part, service) = (facts.part.as_ref()?, facts.service.as_ref()?);
    let (until, failures) = (part.open_until, part.failures);
    // An endpoint's own URL is a service without a name.
    let (what, of) = if service.is_empty() {
        (format!("The URL of the endpoint {endpoint}"), endpoint.to_owned())
    } else {
        (format!("The service {service} of the endpoint {endpoint}"), format!("{endpoint}/{service}"))
    };
    let of = Some(of);
    let circuit = Circuit { failures: failures.unsigned_abs(), open_until: Some(until) };
    if circuit.is_open(facts.terms?.breaker, facts.now) {
        let detail =
            format!("{what} failed {failures} times in a row and is left alone until {}.", moment(until));
        return Some(Reason { until: Some(until), of, ..Reason::new(Cause::CircuitOpen, detail) });
    }
    let by = part.probe.map_or_else(String::new, |probe| format!(", now delivery {probe}"));
    let detail = format!("{what} was failing: one delivery at a time tries whether it is back{by}.");
    let since = part.probed_at.or(Some(until));
    Some(Reason { since, behind: part.probe, of, ..Reason::new(Cause::ServiceProbing, detail) })
}

/// That its endpoint takes no more at this moment.
pub(super) fn limited(facts: &Facts) -> Option<Reason> {
    let endpoint = facts.row.endpoint.as_ref()?;
    let next = facts.terms?.rate?.next_at(facts.row.rate_due_at?, facts.now)?;
    let detail =
        format!("The rate limit of the endpoint {endpoint}: its slots are taken until {}.", moment(next));
    let limit =
        Reason { until: Some(next), of: Some(endpoint.clone()), ..Reason::new(Cause::RateLimit, detail) };
    let see = format!("/stores/{}/endpoints/{endpoint}", facts.store);
    Some(limit.act(format!("wait, or raise the rate: PUT {see}")).see(see))
}

/// That one which somebody has claimed may wait for its slot: which that is, only its process knows.
pub(super) fn slot_to_come(facts: &Facts) -> Option<Reason> {
    let limit = limited(facts)?;
    let endpoint = limit.of.as_deref().unwrap_or_default();
    let detail = format!("The endpoint {endpoint} has a rate limit: it may wait for its slot.");
    Some(Reason { until: None, act: None, detail, ..limit })
}

/// That it waits for `run_at`, and since when: an attempt failed, or the endpoint asked for it. `otherwise` says whether
/// another reason tells already why it was put off.
pub(super) fn time(facts: &Facts, run_at: DateTime<Utc>, otherwise: bool) -> Vec<Reason> {
    let at = moment(run_at);
    let last = facts.last.as_ref();
    let attempt = last.map(|last| last.number);
    let error = last.and_then(|last| last.error.clone());
    let mut found = Vec::new();
    if last.is_some_and(|last| last.cause.as_deref() == Some("address_not_allowed")) {
        let detail = format!("The address may not be asked: {}.", error.as_deref().unwrap_or("not allowed"));
        let refused = Reason {
            error: error.clone(),
            attempt,
            of: facts.row.endpoint.clone(),
            ..Reason::new(Cause::AddressNotAllowed, detail)
        };
        found
            .push(refused.act("correct the endpoint's url, or name its network in POSTRIDER_ALLOW_NETWORKS"));
    }
    let reason = match last.map(|last| (last, last.verdict.as_str())) {
        Some((last, "failed" | "lost")) => {
            let (number, why) = (last.number, last.error.as_deref().unwrap_or("no reason"));
            let detail = format!("Attempt {number} failed ({why}). The next begins at {at}.");
            Reason { attempt, error, ..Reason::new(Cause::Backoff, detail) }
        }
        Some((last, "deferred")) if facts.row.continues => {
            let detail = format!(
                "The endpoint works on it since attempt {}: it is asked for its answer at {at}.",
                last.number
            );
            Reason { attempt, ..Reason::new(Cause::AnswerAwaited, detail) }
        }
        Some((last, "deferred")) => {
            let detail =
                format!("The endpoint put it off at attempt {}: it is asked again at {at}.", last.number);
            Reason { attempt, ..Reason::new(Cause::PutOff, detail) }
        }
        _ if otherwise => return found,
        _ => {
            let detail = format!("It was put off until {at} without an attempt: no process could send it.");
            Reason::new(Cause::Scheduled, detail).act("look at the workers' logs")
        }
    };
    found.push(later(reason, run_at, facts.now));
    found
}

/// That as many run as may.
pub(super) fn full(facts: &Facts) -> Option<Reason> {
    let (endpoint, terms) = (facts.row.endpoint.as_ref()?, facts.terms?);
    let room = circuit(facts).room(terms.concurrency, terms.breaker, facts.now)?;
    let each = Places::Each(|_: &Process| Some(room));
    let full = places(&facts.taken, &facts.processes, &each, &format!("the endpoint {endpoint}"))?;
    let see = format!("/stores/{}/endpoints/{endpoint}", facts.store);
    Some(full.act(format!("wait, or raise the concurrency: PUT {see}")).see(see))
}

//! Which facts of a delivery make which reasons.

use super::super::facts::Terms;
use super::*;
use crate::flow::circuit::Breaker;
use crate::flow::rate::Rate;
use crate::hub::delivery::store::why::{InLine, Last, Row, Service};
use crate::worker::store::why::Taken;
use crate::worker::why::samples::{at, first, held, process, taken};
use std::time::Duration;
use uuid::Uuid;

const TERMS: Terms = Terms {
    enabled: true,
    concurrency: 2,
    breaker: Breaker { failures: 3, cooldown: Duration::from_mins(1) },
    rate: None,
};

/// A delivery that is next in the lane of its endpoint, and that nothing keeps.
fn facts() -> Facts {
    let row = Row {
        status: "PENDING".to_owned(),
        last_error: None,
        parked_by: None,
        finished_at: None,
        archived_at: None,
        continues: false,
        returned_by: None,
        is_held_back: false,
        mapping_id: 1,
        mapping: "ship".to_owned(),
        enabled: true,
        mapping_put_at: at(-600),
        lane: 1,
        endpoint: Some("warehouse".to_owned()),
        endpoint_put_at: Some(at(-500)),
        off_at: None,
        off_failures: None,
        off_since: None,
        off_error: None,
        key_id: None,
        failures: 0,
        open_until: None,
        rate_due_at: None,
    };
    Facts {
        now: at(0),
        id: Uuid::from_u128(3),
        store: "shop".to_owned(),
        row,
        service: Some("take".to_owned()),
        terms: Some(TERMS),
        held: None,
        scheduled: None,
        last: None,
        line: None,
        part: None,
        processes: vec![process(1, &["key a"])],
        passwords: Vec::new(),
        taken: Taken::default(),
        ahead: Some(first()),
    }
}

fn found(facts: &Facts) -> Vec<Reason> {
    let mut found = reasons(facts, &[]);
    found.sort_by_key(|reason| reason.cause);
    found
}

fn causes(facts: &Facts) -> Vec<Cause> {
    found(facts).iter().map(|reason| reason.cause).collect()
}

/// With the last attempt, tried again in a minute.
fn tried(verdict: &str, cause: Option<&str>) -> Facts {
    let last = Last {
        number: 4,
        verdict: verdict.to_owned(),
        cause: cause.map(str::to_owned),
        error: (verdict == "failed").then(|| "status: the answer is 500".to_owned()),
    };
    Facts { last: Some(last), scheduled: Some(at(60)), ahead: None, ..facts() }
}

#[test]
fn one_that_nothing_keeps_is_due_and_one_that_is_claimed_runs() {
    assert_eq!(causes(&facts()), [Cause::Due]);
    assert_eq!(causes(&Facts { held: Some(held(false)), ..facts() }), [Cause::Running]);
    assert_eq!(causes(&Facts { held: Some(held(true)), ..facts() }), [Cause::WorkerSilent]);
}

#[test]
fn what_is_switched_off_is_named_with_what_switches_it_on() {
    let mut off = facts();
    (off.row.enabled, off.row.is_held_back, off.ahead) = (false, true, None);
    off.terms = Some(Terms { enabled: false, ..TERMS });
    let said: Vec<_> =
        found(&off).into_iter().map(|reason| (reason.cause, reason.of, reason.since)).collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        said,
        [
            (Cause::MappingDisabled, named("ship"), Some(at(-600))),
            (Cause::EndpointDisabled, named("warehouse"), Some(at(-500))),
        ]
    );
}

#[test]
fn a_circuit_is_open_for_its_time_and_then_one_tries() {
    let mut own = facts();
    (own.row.failures, own.row.open_until) = (3, Some(at(30)));
    assert_eq!((causes(&own), found(&own)[0].until), (vec![Cause::CircuitOpen], Some(at(30))));
    own.row.open_until = Some(at(-1));
    assert_eq!(causes(&own), [Cause::ServiceProbing]);
    let part = |open_until, probe| Service { failures: 3, open_until, probed_at: None, probe };
    let open = Facts { part: Some(part(at(30), None)), ..facts() };
    let said = &found(&open)[0];
    assert_eq!((said.cause, said.of.as_deref()), (Cause::CircuitOpen, Some("warehouse/take")));
    let probe = Uuid::from_u128(9);
    let ajar = Facts { part: Some(part(at(-1), Some(probe))), ..facts() };
    assert_eq!((causes(&ajar), found(&ajar)[0].behind), (vec![Cause::ServiceProbing], Some(probe)));
    let waits = Facts { scheduled: Some(at(31)), ahead: None, ..open };
    assert_eq!(causes(&waits), [Cause::CircuitOpen], "it waits for nothing else");
}

#[test]
fn a_url_itself_is_a_service_without_a_name() {
    let part = Service { failures: 3, open_until: at(30), probed_at: None, probe: None };
    for open_until in [at(30), at(-1)] {
        let part = Some(Service { open_until, ..part.clone() });
        let said = &found(&Facts { part, service: Some(String::new()), ..facts() })[0];
        assert_eq!(said.of.as_deref(), Some("warehouse"));
        assert!(
            said.detail.starts_with("The URL of the endpoint warehouse ") && !said.detail.contains("  "),
            "{said:?}"
        );
    }
}

#[test]
fn keys_that_no_process_has_are_told_with_what_they_open() {
    let named = |facts: &Facts| {
        let found = found(facts);
        (found[0].cause, found[0].of.clone().unwrap_or_default())
    };
    let mut sealed = facts();
    sealed.row.key_id = Some("a".to_owned());
    sealed.passwords = vec![("a".to_owned(), "api_key".to_owned())];
    assert_eq!(causes(&sealed), [Cause::Due]);
    sealed.passwords.push(("b".to_owned(), "other".to_owned()));
    sealed.scheduled = Some(at(5));
    assert_eq!((causes(&sealed), named(&sealed).1), (vec![Cause::NoKey], "other".to_owned()));
    sealed.row.key_id = Some("c".to_owned());
    assert_eq!(named(&sealed), (Cause::NoKey, "warehouse".to_owned()));
}

#[test]
fn a_rate_limit_says_when_the_next_goes() {
    let mut limited = facts();
    limited.terms = Some(Terms { rate: Some(Rate { per_second: 1.0, burst: 1 }), ..TERMS });
    limited.row.rate_due_at = Some(at(20));
    assert_eq!((causes(&limited), found(&limited)[0].until), (vec![Cause::RateLimit], Some(at(20))));
    let claimed = Facts { held: Some(held(false)), ..limited.clone() };
    assert_eq!(causes(&claimed), [Cause::RateLimit, Cause::Running], "it may have a slot to come");
    assert_eq!(found(&claimed)[0].until, None, "which only its process knows");
    let put_off = Facts { scheduled: Some(at(20)), ahead: None, ..limited };
    assert_eq!(causes(&put_off), [Cause::RateLimit]);
}

#[test]
fn what_is_for_later_says_what_the_last_attempt_came_to() {
    let failed = tried("failed", Some("status"));
    let said: Vec<_> = found(&failed)
        .into_iter()
        .map(|reason| (reason.cause, reason.attempt, reason.error, reason.until))
        .collect();
    let error = Some("status: the answer is 500".to_owned());
    assert_eq!(said, [(Cause::Backoff, Some(4), error, Some(at(60)))]);
    assert_eq!(causes(&tried("lost", None)), [Cause::Backoff]);
    let refused = tried("failed", Some("address_not_allowed"));
    assert_eq!(causes(&refused), [Cause::AddressNotAllowed, Cause::Backoff]);
    assert_eq!(causes(&tried("deferred", None)), [Cause::PutOff]);
    let mut awaited = tried("deferred", None);
    awaited.row.continues = true;
    assert_eq!(causes(&awaited), [Cause::AnswerAwaited]);
    assert_eq!(causes(&Facts { last: None, ..tried("failed", None) }), [Cause::Scheduled]);
}

#[test]
fn a_line_names_its_head_and_what_holds_that() {
    let head = Uuid::from_u128(5);
    let line = Some(InLine { head, before: 2 });
    let waits = Facts { line, ahead: None, ..facts() };
    let of_head = reasons(&tried("failed", None), &[]);
    let said = reasons(&waits, &of_head);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].cause, said[0].behind, said[0].count), (Cause::Line, Some(head), Some(2)));
    assert_eq!(said[0].behind_causes, [Cause::Backoff]);
    assert!(said[0].detail.contains("Attempt 4 failed"), "{}", said[0].detail);
}

#[test]
fn places_are_those_that_the_failures_of_the_endpoint_leave() {
    let full = |failures, count| {
        let mut facts = Facts { taken: taken(&[(1, count)]), ..facts() };
        facts.row.failures = failures;
        causes(&facts) == [Cause::PlacesTaken]
    };
    assert!(full(0, 2) && !full(0, 1));
    assert!(full(1, 1), "a failure halves them");
}

#[test]
fn one_that_is_parked_says_by_which_rule_until_somebody_archives_it() {
    // Whatever the words look like: endpoints quote what they like.
    for (error, rule, act) in [
        ("status: x (older than max_age)", "max_attempts", "retry"),
        ("the mapping was deleted", "final_answer", "retry"),
        ("gone", "mapping_deleted", "archive"),
    ] {
        let mut parked = facts();
        (parked.row.status, parked.row.last_error) = ("ERROR".to_owned(), Some(error.to_owned()));
        parked.row.parked_by = Some(rule.to_owned());
        let found = reasons(&parked, &[]);
        assert_eq!((found[0].cause, found[0].rule.as_deref()), (Cause::Parked, Some(rule)), "{error}");
        let told = found[0].act.clone().unwrap_or_default();
        assert_eq!(told.contains("/retry"), act == "retry", "{told}");
        parked.row.archived_at = Some(at(0));
        assert!(reasons(&parked, &[]).is_empty());
    }
    for status in ["COMPLETE", "SKIPPED"] {
        let mut ended = facts();
        ended.row.status = status.to_owned();
        assert!(reasons(&ended, &[]).is_empty(), "{status}");
    }
}

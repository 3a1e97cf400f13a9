//! Which facts of a job make which reasons.

use super::*;
use crate::jobs::store::why::Row;
use crate::worker::store::LastAsker;
use crate::worker::store::why::Ahead;
use crate::worker::why::samples::{at, first, held, process};
use uuid::Uuid;

/// A job that is next, and for which somebody asks.
fn facts() -> Facts {
    let row = Row {
        item: Uuid::nil(),
        status: "REQUESTED".to_owned(),
        started_at: None,
        completed_at: None,
        deadline: None,
        answer_by: None,
        cancel_by: None,
        asks: None,
        asks_since: None,
        key_id: None,
    };
    let asker = Some(LastAsker { at: at(-1), by: None });
    let processes = vec![process(1, &["key a"])];
    Facts { now: at(0), row, held: None, scheduled: None, asker, processes, ahead: Some(first()) }
}

fn running() -> Facts {
    let row = Row { started_at: Some(at(-60)), deadline: Some(at(240)), ..facts().row };
    Facts { held: Some(held(false)), row, ..facts() }
}

fn found(facts: &Facts) -> Vec<Reason> {
    let which = Which { job_type: "cards".to_owned(), id: 7 };
    let mut found = reasons(facts, &which);
    found.sort_by_key(|reason| reason.cause);
    found
}

fn causes(facts: &Facts) -> Vec<Cause> {
    found(facts).iter().map(|reason| reason.cause).collect()
}

#[test]
fn a_job_waits_for_whoever_claims_and_for_those_before_it() {
    assert_eq!(causes(&facts()), [Cause::Due]);
    let behind = Facts { ahead: Some(Ahead { place: Some(3), higher: 0, looked_at: 3 }), ..facts() };
    assert_eq!(causes(&behind), [Cause::Earlier]);
    let nobody = Facts { asker: None, ..behind };
    assert_eq!(causes(&nobody), [Cause::NobodyClaims, Cause::Earlier]);
    let last = Some(LastAsker { at: at(-300), by: None });
    let nobody = found(&Facts { asker: last, scheduled: Some(at(1)), ..facts() });
    let said: Vec<_> = nobody.iter().map(|reason| (reason.cause, reason.since, reason.until)).collect();
    assert_eq!(said, [(Cause::NobodyClaims, Some(at(-300)), None), (Cause::Scheduled, None, Some(at(1)))]);
}

#[test]
fn data_that_nobody_can_open_and_a_silent_worker_without_anybody_to_take_back_are_told() {
    let mut sealed = facts();
    sealed.row.key_id = Some("a".to_owned());
    assert_eq!(causes(&sealed), [Cause::Due]);
    sealed.row.key_id = Some("b".to_owned());
    assert_eq!(causes(&sealed), [Cause::NoKey]);
    let silent = Facts { held: Some(held(true)), ..running() };
    assert!(found(&silent)[0].detail.ends_with("and then it is taken back."));
    let alone = found(&Facts { processes: Vec::new(), ..silent });
    assert!(alone[0].detail.ends_with("no process lives that would take it back."), "{alone:?}");
    assert!(alone[0].act.as_deref().is_some_and(|act| act.starts_with("start")));
}

#[test]
fn a_job_that_runs_says_so_with_its_deadline_and_what_it_waits_for() {
    let said = |facts: &Facts| -> Vec<_> {
        found(facts).iter().map(|reason| (reason.cause, reason.since, reason.until)).collect()
    };
    assert_eq!(said(&running()), [(Cause::Running, Some(at(-60)), Some(at(240)))]);
    let unclaimed = Facts { held: None, ..running() };
    assert_eq!(said(&unclaimed), [(Cause::Running, Some(at(-60)), Some(at(240)))]);
    let silent = Facts { held: Some(held(true)), ..running() };
    assert_eq!(said(&silent), [(Cause::WorkerSilent, Some(at(0)), Some(at(15)))]);
    let mut asks = running();
    asks.row.answer_by = Some(at(200));
    asks.row.asks = Some("tfa_request".to_owned());
    asks.row.asks_since = Some(at(-40));
    asks.row.cancel_by = Some(at(20));
    let running = (Cause::Running, Some(at(-60)), Some(at(240)));
    let all =
        [(Cause::Cancelling, None, Some(at(20))), (Cause::AsksOwner, Some(at(-40)), Some(at(200))), running];
    assert_eq!(said(&asks), all);
    assert_eq!(found(&asks)[1].of.as_deref(), Some("tfa_request"));
}

//! Which facts of a message make which reasons.

use super::*;
use crate::queues::store::why::{Last, Row};
use crate::worker::store::LastAsker;
use crate::worker::store::why::Taken;
use crate::worker::why::samples::{at, first, held, process, taken};

/// A message that is next in its lane, and that nothing keeps.
fn facts() -> Facts {
    let row = Row {
        rank: 0,
        ended: None,
        ended_leases: Vec::new(),
        paused_at: None,
        paused_by: None,
        key_id: None,
    };
    Facts {
        now: at(0),
        row,
        held: None,
        scheduled: None,
        last: None,
        processes: vec![process(1, &["javascript", "javascript 2", "native resize"])],
        asker: Some(LastAsker { at: at(-1), by: Some("bob".to_owned()) }),
        taken: Taken::default(),
        ahead: Some(first()),
        keeper: None,
    }
}

fn runs(handler: Handler) -> Runs {
    Runs { queue: "q".to_owned(), handler: Some(handler), concurrency: Some(3), in_process: 3 }
}

fn native(name: &str) -> Handler {
    Handler::Native { name: name.to_owned() }
}

fn javascript() -> Handler {
    Handler::JavaScript { source: String::new() }
}

fn causes(facts: &Facts, runs: &Runs) -> Vec<Cause> {
    let mut causes: Vec<Cause> = reasons(facts, runs).iter().map(|reason| reason.cause).collect();
    causes.sort();
    causes
}

#[test]
fn one_that_nothing_keeps_is_due_whatever_runs_it() {
    for handler in [native("resize"), javascript(), Handler::Worker] {
        assert_eq!(causes(&facts(), &runs(handler)), [Cause::Due]);
    }
}

#[test]
fn one_that_is_claimed_runs_or_its_worker_is_silent_and_nothing_else_matters() {
    let paused = Row { paused_at: Some(at(-5)), ..facts().row };
    for (is_silent, cause) in [(false, Cause::Running), (true, Cause::WorkerSilent)] {
        let facts = Facts { held: Some(held(is_silent)), row: paused.clone(), ..facts() };
        let reasons = reasons(&facts, &runs(native("resize")));
        let said: Vec<_> =
            reasons.iter().map(|reason| (reason.cause, reason.attempt, reason.by.as_deref())).collect();
        assert_eq!(said, [(cause, Some(2), Some("host:1"))]);
    }
}

#[test]
fn a_pause_says_since_when_and_by_whom() {
    let row = Row { paused_at: Some(at(-5)), paused_by: Some("ann".to_owned()), ..facts().row };
    let found = reasons(&Facts { row, ..facts() }, &runs(native("resize")));
    let said: Vec<_> = found
        .iter()
        .map(|reason| (reason.cause, reason.since, reason.by.as_deref(), reason.act.as_deref()))
        .collect();
    assert_eq!(said, [(Cause::QueuePaused, Some(at(-5)), Some("ann"), Some("POST /queues/q/resume"))]);
}

#[test]
fn somebody_has_to_be_there_who_runs_it() {
    let runs_none = Runs { handler: None, ..runs(Handler::Worker) };
    assert_eq!(causes(&facts(), &runs_none), [Cause::NoHandler]);
    let other = runs(native("other"));
    assert_eq!(causes(&facts(), &other), [Cause::NoRunner]);
    assert!(reasons(&facts(), &other)[0].detail.contains("the native handler other"));
    let natives = Facts { processes: vec![process(1, &["native resize"])], ..facts() };
    assert_eq!(causes(&natives, &runs(javascript())), [Cause::NoRunner]);
    assert_eq!(causes(&Facts { processes: Vec::new(), ..facts() }, &runs(javascript())), [Cause::NoProcess]);
    assert_eq!(causes(&Facts { asker: None, ..facts() }, &runs(Handler::Worker)), [Cause::NobodyClaims]);
    let alone = Facts { processes: Vec::new(), ..facts() };
    assert_eq!(
        causes(&alone, &runs(Handler::Worker)),
        [Cause::Due],
        "remote workers need no process of ours"
    );
}

#[test]
fn what_is_for_later_says_until_when_and_after_which_error() {
    let scheduled = Facts { scheduled: Some(at(60)), ..facts() };
    assert_eq!(causes(&scheduled, &runs(native("resize"))), [Cause::Scheduled]);
    let last = Last {
        attempt: 2,
        ending: "retried".to_owned(),
        error: Some(r#"{"name":"E","message":"no"}"#.to_owned()),
    };
    let failed = Facts { last: Some(last), ..scheduled };
    let found = reasons(&failed, &runs(native("resize")));
    let said: Vec<_> = found
        .iter()
        .map(|reason| (reason.cause, reason.attempt, reason.error.as_deref(), reason.until))
        .collect();
    assert_eq!(said, [(Cause::Backoff, Some(2), Some("E: no"), Some(at(60)))]);
    let paused = Row { paused_at: Some(at(-5)), ..failed.row.clone() };
    let both = Facts { row: paused, ..failed };
    assert_eq!(causes(&both, &runs(native("resize"))), [Cause::QueuePaused, Cause::Backoff]);
}

#[test]
fn places_are_those_of_each_process_and_of_its_children_or_those_of_all_remote_workers() {
    let full = |by: i64, handler: Handler| {
        causes(&Facts { taken: taken(&[(1, by)]), ..facts() }, &runs(handler)) == [Cause::PlacesTaken]
    };
    assert!(full(3, native("resize")) && !full(2, native("resize")));
    assert!(full(2, javascript()) && !full(1, javascript()), "a process has two children for it");
    assert!(full(3, Handler::Worker) && !full(2, Handler::Worker));
    let unlimited = Runs { concurrency: None, ..runs(Handler::Worker) };
    let many = Facts { taken: taken(&[(1, 30)]), ..facts() };
    assert_eq!(causes(&many, &unlimited), [Cause::Due], "without a concurrency there is always room");
}

//! Which facts of the engine make which reasons.

use super::super::samples::{at, process, taken};
use super::*;
use crate::worker::store::why::{Ahead, LOOKED_AT};

fn said(reasons: &[Reason]) -> Vec<(Cause, Option<i64>, bool)> {
    reasons.iter().map(|reason| (reason.cause, reason.count, reason.or_more)).collect()
}

#[test]
fn what_is_before_it_is_counted_up_to_a_bound() {
    let ahead = |place, higher, looked_at| order(Some(&Ahead { place, higher, looked_at }));
    assert!(ahead(Some(1), 0, 1).is_empty());
    assert_eq!(said(&ahead(Some(4), 3, 4)), [(Cause::HigherPriority, Some(3), false)]);
    let both = [(Cause::HigherPriority, Some(2), false), (Cause::Earlier, Some(5), false)];
    assert_eq!(said(&ahead(Some(8), 2, 9)), both);
    assert_eq!(said(&ahead(None, LOOKED_AT, LOOKED_AT)), [(Cause::HigherPriority, Some(LOOKED_AT), true)]);
    let many = [(Cause::HigherPriority, Some(1), false), (Cause::Earlier, Some(LOOKED_AT - 1), true)];
    assert_eq!(said(&ahead(None, 1, LOOKED_AT)), many);
    assert_eq!(ahead(None, 1, LOOKED_AT)[1].detail, "9,999 or more that became ready earlier are before it.");
    assert_eq!(ahead(Some(2), 0, 2)[0].detail, "1 that became ready earlier is before it.");
    assert_eq!(said(&ahead(None, 0, 7)), [(Cause::Nowhere, None, false)]);
    assert_eq!(said(&order(None)), [(Cause::Earlier, None, false)], "it could not be counted in time");
}

#[test]
fn places_are_taken_only_when_no_process_has_one_left() {
    let (one, two) = (process(1, &[]), process(2, &[]));
    let both = [one, two];
    let each = Places::Each(|_: &Process| Some(2));
    let full = |by: &[(u128, i64)]| places(&taken(by), &both, &each, "q").map(|reason| reason.count);
    assert_eq!(full(&[(1, 2), (2, 2)]), Some(Some(4)));
    assert_eq!(full(&[(1, 2), (2, 1)]), None);
    assert_eq!(full(&[(1, 4)]), None, "the other has room");
    assert_eq!(full(&[]), None);
    let nowhere = Places::Each(|_: &Process| None);
    assert!(places(&taken(&[(1, 2)]), &both, &nowhere, "q").is_none(), "nobody can run it at all");
    let only_second = Places::Each(|process: &Process| (process.name == "host:2").then_some(1));
    assert!(places(&taken(&[(2, 1)]), &both, &only_second, "q").is_some());
    let all = Places::<fn(&Process) -> Option<usize>>::InAll(3);
    assert!(places(&taken(&[(1, 2)]), &[], &all, "q").is_none());
    let full = places(&taken(&[(1, 3)]), &[], &all, "q").map(|full| (full.since, full.holders.len()));
    assert_eq!(full, Some((Some(at(-100)), 3)));
    let many = places(&taken(&[(1, 30)]), &[], &Places::<fn(&Process) -> Option<usize>>::InAll(30), "q");
    assert_eq!(many.map(|many| many.holders.len()), Some(NAMED));
}

#[test]
fn a_key_that_no_process_has_is_missing() {
    let has = [process(1, &["key a"]), process(2, &["key b", "javascript"])];
    let missing = |keys: &[(&str, &str)]| no_key(&has, keys.iter().copied()).and_then(|reason| reason.of);
    assert_eq!(missing(&[]), None);
    assert_eq!(missing(&[("a", "one"), ("b", "two")]), None);
    assert_eq!(missing(&[("a", "one"), ("c", "two")]).as_deref(), Some("two"));
    assert!(no_key(&[], [("c", "two")]).is_none(), "no process says it");
}

#[test]
fn who_would_run_it_is_missing_or_behind() {
    let cause = |processes: &[Process], word: &str| {
        let able = |process: &Process| process.runs.iter().any(|runs| runs == word);
        who_runs(processes, able, word).map(|reason| reason.cause)
    };
    assert_eq!(cause(&[], "a"), Some(Cause::NoProcess));
    assert_eq!(cause(&[process(1, &["b"])], "a"), Some(Cause::NoRunner));
    assert_eq!(cause(&[process(1, &["b"]), process(2, &["a"])], "a"), None);
    let behind = Process { is_behind: true, ..process(2, &["a"]) };
    assert_eq!(cause(&[process(1, &["b"]), behind.clone()], "a"), Some(Cause::ClaimLoopBehind));
    assert_eq!(cause(&[process(1, &["a"]), behind], "a"), None, "one claims");
}

#[test]
fn nobody_asks_once_the_last_who_did_is_half_a_minute_gone() {
    let last = |seconds| LastAsker { at: at(seconds), by: Some("bob".to_owned()) };
    let asks = |last: Option<LastAsker>| nobody_asks(last.as_ref(), at(0), "/q/claim");
    assert_eq!(asks(Some(last(-30))), None);
    let nobody = asks(Some(last(-31))).map(|nobody| (nobody.cause, nobody.since, nobody.by));
    assert_eq!(nobody, Some((Cause::NobodyClaims, Some(at(-31)), Some("bob".to_owned()))));
    assert_eq!(asks(None).map(|nobody| (nobody.since, nobody.by)), Some((None, None)));
}

#[test]
fn what_is_long_overdue_waits_for_whoever_moves_it() {
    let reason = || Reason::new(Cause::Scheduled, "");
    let cause = |run_at| later(reason(), at(run_at), at(0)).cause;
    assert_eq!(
        (cause(5), cause(-10), cause(-11)),
        (Cause::Scheduled, Cause::Scheduled, Cause::ClaimLoopBehind)
    );
    assert_eq!(later(reason(), at(5), at(0)).until, Some(at(5)));
}

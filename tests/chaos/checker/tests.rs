//! Small histories, each with one thing wrong, or none.

use super::{check, counts};
use crate::history::{Event, How, Past, Phase, Taken, What};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(3);
const SECOND: u64 = 1_000_000;

/// A test and its name.
type Test = (&'static str, fn());

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

/// All of them.
pub(crate) const ALL: &[Test] = tests![
    a_quiet_history_has_nothing_to_find,
    an_acknowledged_push_that_is_not_there_is_lost,
    an_acknowledged_push_without_an_end_is_lost,
    a_push_that_nobody_knows_of_may_be_there_or_not,
    what_nobody_pushed_is_unexpected,
    what_was_rolled_back_is_unexpected,
    a_key_that_made_two_is_found,
    an_acknowledged_end_counts,
    a_refused_end_does_not_count,
    an_end_under_two_leases_is_found,
    a_claim_holds_for_as_long_as_its_lease,
    two_claims_of_one_item_at_a_time_are_found,
    a_claim_takes_no_more_than_it_asked_for,
    what_has_ended_is_not_claimed,
    what_has_ended_is_not_sent,
    a_line_is_sent_in_its_order,
    children_come_once,
    a_reader_with_a_place_misses_nothing,
    a_place_beyond_the_end_is_told_the_end_and_none_that_was_over,
    a_reader_with_a_key_misses_nothing_and_hears_nothing_twice,
    an_answer_that_was_lost_excuses_a_hole_and_a_crash_a_repeat,
    what_was_said_of_a_job_is_in_its_log,
    what_is_left_is_found,
];

/// A history of these events, a second apart.
fn of(what: Vec<What>) -> Vec<Event> {
    let event = |(place, what)| Event { at: (place as u64 + 1) * SECOND, by: "c".to_owned(), what };
    what.into_iter().enumerate().map(event).collect()
}

/// The kinds of what is found, each as often as it is.
fn found(events: &[Event]) -> Vec<(&'static str, usize)> {
    counts(&check(events, LEASE)).into_iter().filter(|(_, count)| *count > 0).collect()
}

fn push(op: u64, phase: Phase, tag: &str, ids: &[&str]) -> What {
    keyed(op, phase, tag, None, ids)
}

fn keyed(op: u64, phase: Phase, tag: &str, key: Option<&str>, ids: &[&str]) -> What {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    What::Push {
        op,
        phase,
        into: "q".to_owned(),
        tags: vec![tag.to_owned()],
        key: key.map(str::to_owned),
        ids,
    }
}

fn last(
    id: &str,
    tag: &str,
    status: &str,
    lease: Option<&str>,
    mark: Option<&str>,
    past: &[(&str, &str)],
) -> What {
    let one = |(lease, mark): &(&str, &str)| Past { lease: (*lease).to_owned(), mark: (*mark).to_owned() };
    What::LastMessage {
        into: "q".to_owned(),
        id: id.to_owned(),
        tag: tag.to_owned(),
        status: status.to_owned(),
        lease: lease.map(str::to_owned),
        mark: mark.map(str::to_owned),
        past: past.iter().map(one).collect(),
    }
}

fn claim(op: u64, phase: Phase, max: usize, taken: &[(&str, &str)]) -> What {
    let one = |(id, lease): &(&str, &str)| Taken {
        id: (*id).to_owned(),
        tag: "t".to_owned(),
        lease: (*lease).to_owned(),
    };
    What::Claim { op, phase, from: "q".to_owned(), max, taken: taken.iter().map(one).collect() }
}

fn end(op: u64, phase: Phase, id: &str, lease: &str, mark: &str, claimed: u64) -> What {
    let (id, lease, mark) = (id.to_owned(), lease.to_owned(), mark.to_owned());
    What::End { op, phase, id, lease, complete: true, mark, claimed: claimed * SECOND }
}

fn start(id: &str, tag: &str, line: Option<&str>) -> What {
    What::Start { id: id.to_owned(), tag: tag.to_owned(), line: line.map(str::to_owned) }
}

fn read(phase: Phase, how: How, after: i64, got: &[(Option<i64>, &str)]) -> What {
    let got = got.iter().map(|(seq, mark)| (*seq, (*mark).to_owned())).collect();
    What::Read { op: 0, phase, job: "job/1".to_owned(), how, after, got }
}

fn say(op: u64, phase: Phase, mark: &str) -> What {
    What::Say { op, phase, job: "job/1".to_owned(), mark: mark.to_owned(), last: false }
}

fn job(log: &[(i64, &str)]) -> Vec<What> {
    let log = log.iter().map(|(seq, mark)| (*seq, (*mark).to_owned())).collect();
    let last = What::LastJob { id: "job/1".to_owned(), tag: "t".to_owned(), finished: true, log };
    vec![push(90, Phase::Invoke, "t", &[]), push(90, Phase::Ok, "t", &["job/1"]), last]
}

fn nemesis(name: &str) -> What {
    What::Nemesis { phase: Phase::Ok, name: name.to_owned(), detail: String::new() }
}

fn pushed() -> Vec<What> {
    vec![push(1, Phase::Invoke, "t", &[]), push(1, Phase::Ok, "t", &["m"])]
}

fn with(mut before: Vec<What>, after: Vec<What>) -> Vec<Event> {
    before.extend(after);
    of(before)
}

fn a_quiet_history_has_nothing_to_find() {
    let middle = vec![
        claim(2, Phase::Invoke, 1, &[]),
        claim(2, Phase::Ok, 1, &[("m", "l")]),
        end(3, Phase::Invoke, "m", "l", "x", 3),
        end(3, Phase::Ok, "m", "l", "x", 3),
        What::Ended { ids: vec!["m".to_owned()] },
        What::Rest { idle: true, seconds: 1 },
        last("m", "t", "COMPLETE", Some("l"), Some("x"), &[("k", "WorkerLost")]),
        What::Left { table: "leases".to_owned(), rows: 0 },
    ];
    assert_eq!(found(&with(pushed(), middle)), []);
}

fn an_acknowledged_push_that_is_not_there_is_lost() {
    assert_eq!(found(&of(pushed())), [("lost", 1)]);
}

fn an_acknowledged_push_without_an_end_is_lost() {
    assert_eq!(found(&with(pushed(), vec![last("m", "t", "PENDING", None, None, &[])])), [("lost", 1)]);
}

fn a_push_that_nobody_knows_of_may_be_there_or_not() {
    let there = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[]);
    for phases in [vec![Phase::Invoke], vec![Phase::Invoke, Phase::Unknown]] {
        let pushes: Vec<What> = phases.into_iter().map(|phase| push(1, phase, "t", &[])).collect();
        assert_eq!(found(&of(pushes.clone())), []);
        assert_eq!(found(&with(pushes.clone(), vec![there.clone()])), []);
        let open = last("m", "t", "INPROGRESS", None, None, &[]);
        assert_eq!(found(&with(pushes, vec![open])), [("unfinished", 1)]);
    }
}

fn what_nobody_pushed_is_unexpected() {
    assert_eq!(found(&of(vec![last("m", "t", "COMPLETE", Some("l"), Some("x"), &[])])), [("unexpected", 1)]);
}

fn what_was_rolled_back_is_unexpected() {
    let there = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[]);
    let back = vec![push(1, Phase::Invoke, "t", &[]), push(1, Phase::Fail, "t", &[]), there];
    assert_eq!(found(&of(back)), [("unexpected", 1)]);
}

fn a_key_that_made_two_is_found() {
    let twice = |key| {
        let mut all: Vec<What> = Vec::new();
        for (op, id) in [(1, "m"), (2, "n")] {
            all.extend([keyed(op, Phase::Invoke, "t", key, &[]), keyed(op, Phase::Ok, "t", key, &[id])]);
        }
        all.extend(["m", "n"].map(|id| last(id, "t", "COMPLETE", Some("l"), Some("x"), &[])));
        of(all)
    };
    assert_eq!(found(&twice(Some("k"))), [("a key made two", 1)]);
    assert_eq!(found(&twice(None)), [("stored twice", 1)]);
}

fn an_acknowledged_end_counts() {
    let say = |phase| {
        with(pushed(), vec![end(2, Phase::Invoke, "m", "l", "x", 1), end(2, phase, "m", "l", "x", 1)])
    };
    let judge = |phase, there: What| {
        let mut events = say(phase);
        events.push(Event { at: 9 * SECOND, by: "last".to_owned(), what: there });
        found(&events)
    };
    let wrong = [("an acknowledged end does not count", 1)];
    assert_eq!(judge(Phase::Ok, last("m", "t", "COMPLETE", Some("l"), Some("x"), &[])), []);
    assert_eq!(
        judge(Phase::Ok, last("m", "t", "COMPLETE", Some("k"), Some("y"), &[("l", "WorkerLost")])),
        wrong
    );
    assert_eq!(judge(Phase::Ok, last("m", "t", "COMPLETE", Some("l"), Some("y"), &[])), wrong);
    assert_eq!(judge(Phase::Unknown, last("m", "t", "COMPLETE", Some("k"), Some("y"), &[])), []);
}

fn a_refused_end_does_not_count() {
    let refused = |claimed, there: What| {
        let middle = vec![
            end(2, Phase::Invoke, "m", "l", "x", claimed),
            end(2, Phase::Fail, "m", "l", "x", claimed),
            there,
        ];
        found(&with(pushed(), middle))
    };
    assert_eq!(
        refused(0, last("m", "t", "COMPLETE", Some("l"), Some("x"), &[])),
        [("a refused end counts", 1)]
    );
    assert_eq!(refused(0, last("m", "t", "COMPLETE", Some("k"), Some("y"), &[])), []);
}

fn an_end_under_two_leases_is_found() {
    let ends = vec![end(2, Phase::Ok, "m", "l", "x", 1), end(3, Phase::Ok, "m", "k", "y", 1)];
    let there = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[]);
    let all = with(pushed(), [ends, vec![there]].concat());
    assert_eq!(found(&all), [("an acknowledged end does not count", 1), ("ended twice", 1)]);
    let both = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[("l", "WorkerLost")]);
    assert_eq!(found(&with(pushed(), vec![both])), [("ended twice", 1)]);
}

fn a_claim_holds_for_as_long_as_its_lease() {
    let refused = |claimed, first: Vec<What>| {
        let there = last("m", "t", "COMPLETE", Some("k"), Some("y"), &[]);
        let middle = vec![end(2, Phase::Fail, "m", "l", "x", claimed), there];
        found(&with([pushed(), first].concat(), middle))
    };
    let wrong = [("an acknowledged claim does not hold", 1)];
    assert_eq!(refused(2, Vec::new()), wrong);
    assert_eq!(refused(0, Vec::new()), []);
    assert_eq!(refused(3, vec![nemesis("kill")]), wrong);
    assert_eq!(refused(3, vec![nemesis("clock")]), []);
    assert_eq!(refused(3, vec![end(1, Phase::Unknown, "m", "l", "x", 3)]), []);
}

fn two_claims_of_one_item_at_a_time_are_found() {
    let there = last("m", "t", "COMPLETE", Some("k"), Some("y"), &[]);
    let claims = |between: Vec<What>| {
        let first = vec![claim(2, Phase::Invoke, 1, &[]), claim(2, Phase::Ok, 1, &[("m", "l")])];
        let second = vec![claim(3, Phase::Ok, 1, &[("m", "k")]), there.clone()];
        found(&with([pushed(), first].concat(), [between, second].concat()))
    };
    assert_eq!(claims(Vec::new()), [("claimed twice", 1)]);
    assert_eq!(claims(vec![nemesis("kill"), nemesis("kill")]), []);
    assert_eq!(claims(vec![end(4, Phase::Invoke, "m", "l", "x", 3)]), []);
}

fn a_claim_takes_no_more_than_it_asked_for() {
    let taken = claim(1, Phase::Ok, 1, &[("m", "l"), ("n", "k")]);
    assert_eq!(found(&of(vec![taken])), [("claimed more than asked", 1)]);
}

fn what_has_ended_is_not_claimed() {
    let there = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[]);
    let (ended, asked) = (end(2, Phase::Ok, "m", "l", "x", 0), claim(3, Phase::Invoke, 1, &[]));
    let taken = claim(3, Phase::Ok, 1, &[("m", "k")]);
    let late = vec![ended.clone(), asked.clone(), taken.clone(), there.clone()];
    assert_eq!(found(&with(pushed(), late)), [("started after its end", 1)]);
    assert_eq!(found(&with(pushed(), vec![asked, ended, taken, there])), []);
}

fn what_has_ended_is_not_sent() {
    let there = last("m", "t", "COMPLETE", Some("l"), Some("x"), &[]);
    let ended = What::Ended { ids: vec!["m".to_owned()] };
    let at_once = with(pushed(), vec![ended.clone(), start("m", "t", None), there.clone()]);
    assert_eq!(found(&at_once), [], "it may have been on the wire");
    let late = with(pushed(), vec![ended, nemesis("pause"), start("m", "t", None), there]);
    assert_eq!(found(&late), [("started after its end", 1)]);
}

fn a_line_is_sent_in_its_order() {
    let line = |tags: &[&str]| {
        let mut all = Vec::new();
        for (op, tag) in ["a", "b"].into_iter().enumerate() {
            all.push(push(op as u64, Phase::Invoke, tag, &[]));
        }
        all.extend(tags.iter().map(|tag| start(tag, tag, Some("l"))));
        found(&of(all))
    };
    assert_eq!(line(&["a", "a", "b", "b"]), []);
    assert_eq!(line(&["b", "a"]), [("out of order in its line", 1)]);
    assert_eq!(line(&["a", "b", "a", "b"]), [("out of order in its line", 1)]);
}

fn children_come_once() {
    let children = |tags: &[&str], status: &str| {
        let delivery = What::LastDelivery {
            id: "d".to_owned(),
            tag: "t".to_owned(),
            status: status.to_owned(),
            delivered: 1,
            brings: vec!["t/0".to_owned()],
        };
        let hub = |tag: &str, child| What::LastHubMessage { id: "h".to_owned(), tag: tag.to_owned(), child };
        let mut all = vec![
            push(1, Phase::Invoke, "t", &[]),
            push(1, Phase::Ok, "t", &["h"]),
            hub("t", false),
            delivery,
        ];
        all.extend(tags.iter().map(|tag| hub(tag, true)));
        found(&of(all))
    };
    assert_eq!(children(&["t/0"], "COMPLETE"), []);
    assert_eq!(children(&[], "COMPLETE"), [("children lost", 1)]);
    assert_eq!(children(&["t/0", "t/0"], "COMPLETE"), [("children twice", 1)]);
    assert_eq!(children(&["t/0"], "PENDING"), [("lost", 1), ("unexpected", 1)]);
}

fn a_reader_with_a_place_misses_nothing() {
    let reads = |after, got: &[(Option<i64>, &str)]| {
        found(&with(job(&[(1, "a"), (2, "b"), (3, "c")]), vec![read(Phase::Ok, How::After, after, got)]))
    };
    assert_eq!(reads(1, &[(Some(2), "b"), (Some(3), "c")]), []);
    assert_eq!(reads(0, &[(Some(2), "b")]), [("a hole in a log", 1)]);
    assert_eq!(reads(2, &[(Some(2), "b")]), [("a repeat in a log", 1)]);
    assert_eq!(reads(1, &[(Some(2), "a gap")]), [("a hole in a log", 1)]);
}

fn a_place_beyond_the_end_is_told_the_end_and_none_that_was_over() {
    let beyond = |before: &[(Option<i64>, &str)], end| {
        let begin = read(Phase::Invoke, How::After, 5, &[]);
        let gap = read(Phase::Ok, How::After, 5, &[(Some(end), "a gap")]);
        let reads = vec![read(Phase::Ok, How::After, 0, before), begin, gap];
        found(&with(job(&[(1, "a"), (2, "b"), (3, "c")]), reads))
    };
    assert_eq!(beyond(&[(Some(1), "a")], 1), []);
    assert_eq!(beyond(&[(Some(1), "a")], 3), []);
    assert_eq!(beyond(&[(Some(1), "a"), (Some(2), "b")], 1), [("a hole in a log", 1)]);
}

fn cursor(got: &[&str]) -> What {
    let got: Vec<(Option<i64>, &str)> = got.iter().map(|mark| (None, *mark)).collect();
    read(Phase::Ok, How::Cursor, 0, &got)
}

fn a_reader_with_a_key_misses_nothing_and_hears_nothing_twice() {
    let reads = |reads: Vec<What>| found(&with(job(&[(1, "a"), (2, ""), (3, "c")]), reads));
    assert_eq!(reads(vec![cursor(&["a", ""]), cursor(&["c"])]), []);
    assert_eq!(reads(vec![cursor(&["a"]), cursor(&["c"])]), [("a hole in a log", 1)]);
    assert_eq!(reads(vec![cursor(&["a", "a gap"]), cursor(&["", "c"])]), [("a hole in a log", 1)]);
    assert_eq!(reads(vec![cursor(&["a"]), cursor(&["a", "", "c"])]), [("a repeat in a log", 1)]);
}

fn an_answer_that_was_lost_excuses_a_hole_and_a_crash_a_repeat() {
    let reads = |reads: Vec<What>| found(&with(job(&[(1, "a"), (2, "b"), (3, "c")]), reads));
    let lost = read(Phase::Unknown, How::Cursor, 0, &[]);
    assert_eq!(reads(vec![cursor(&["a"]), lost, cursor(&["c"])]), []);
    assert_eq!(reads(vec![cursor(&["a"]), nemesis("kill-postgres"), cursor(&["a", "b"])]), []);
    assert_eq!(reads(vec![cursor(&["a"]), nemesis("kill"), cursor(&["a", "b"])]), [("a repeat in a log", 1)]);
}

fn what_was_said_of_a_job_is_in_its_log() {
    let said = |phase, log: &[(i64, &str)]| {
        found(&with(vec![say(1, Phase::Invoke, "a"), say(1, phase, "a")], job(log)))
    };
    assert_eq!(said(Phase::Ok, &[(1, "a")]), []);
    assert_eq!(said(Phase::Unknown, &[]), []);
    assert_eq!(said(Phase::Ok, &[]), [("lost", 1)]);
    assert_eq!(said(Phase::Fail, &[(1, "a")]), [("unexpected", 1)]);
    assert_eq!(said(Phase::Ok, &[(1, "a"), (2, "a")]), [("stored twice", 1)]);
    assert_eq!(said(Phase::Unknown, &[(1, "a"), (3, "b")]), [("a hole in a log", 1)]);
}

fn what_is_left_is_found() {
    let left = What::Left { table: "leases".to_owned(), rows: 2 };
    assert_eq!(
        found(&of(vec![left, What::Rest { idle: false, seconds: 9 }])),
        [("left over", 1), ("not idle", 1)]
    );
}

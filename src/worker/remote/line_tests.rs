//! The lines of a waiting room: who is asked for when, and who leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn waiter(holder: &str, most: i32, patient: bool) -> Waiter<()> {
    Waiter { holder: holder.to_owned(), most, patient, reply: () }
}

/// Who is asked for, in which lane.
fn asked(wishes: &[Wish]) -> Vec<(i32, Vec<&str>)> {
    let mut asked: Vec<_> = wishes
        .iter()
        .map(|wish| (wish.lane, wish.shares.iter().map(|(_, holder, _)| holder.as_str()).collect()))
        .collect();
    asked.sort();
    asked
}

#[test]
fn the_first_of_a_line_has_a_look_and_those_who_join_it_wait_for_the_next() {
    let mut lines = Lines::default();
    let first = lines.join(7, waiter("a", 1, true), false).unwrap();
    assert_eq!(first, Joined { number: 0, is_new: true, look: true });
    let (wishes, before) = lines.wishes(true, usize::MAX);
    assert_eq!((asked(&wishes), before), (vec![(7, vec!["a"])], 1));
    assert!(lines.emptied(7, true, before).is_empty(), "it goes on waiting");
    assert!(!lines.join(7, waiter("b", 1, true), false).unwrap().look);
    assert!(lines.wishes(true, usize::MAX).0.is_empty());
    assert!(lines.join(7, waiter("c", 1, true), true).unwrap().look, "this one cannot stay until then");
    assert_eq!(asked(&lines.wishes(false, usize::MAX).0), [(7, vec!["a", "b", "c"])]);
}

#[test]
fn who_does_not_wait_leaves_once_it_is_certain_that_there_is_nothing() {
    let mut lines = Lines::default();
    lines.join(7, waiter("waits", 1, true), false).unwrap();
    lines.join(7, waiter("asks", 1, false), true).unwrap();
    let (_, before) = lines.wishes(false, usize::MAX);
    lines.join(7, waiter("came later", 1, false), true).unwrap();
    assert!(lines.emptied(7, false, before).is_empty(), "below the mark may be something");
    let (wishes, before_sweep) = lines.wishes(true, usize::MAX);
    assert_eq!(asked(&wishes), [(7, vec!["waits", "asks", "came later"])]);
    let nothing = |left: Vec<Waiter<()>>| left.into_iter().map(|waiter| waiter.holder).collect::<Vec<_>>();
    assert_eq!(nothing(lines.emptied(7, true, before)), ["asks"]);
    assert_eq!(nothing(lines.emptied(7, true, before_sweep)), ["came later"]);
    assert!(!lines.awaits_sweep());
}

#[test]
fn more_is_asked_for_while_claims_are_filled() {
    let mut lines = Lines::default();
    for _ in 0..1000 {
        lines.join(7, waiter("a", 1, true), false).unwrap();
    }
    let mut rooms = Vec::new();
    for _ in 0..7 {
        rooms.push(lines.wishes(false, usize::MAX).0[0].room());
        lines.filled(7, false);
    }
    assert_eq!(rooms, [16, 32, 64, 128, 256, 500, 500]);
    lines.filled(7, true);
    let (wishes, before) = lines.wishes(false, usize::MAX);
    assert_eq!(wishes[0].room(), 250, "it took long");
    lines.emptied(7, true, before);
    lines.ready(7);
    assert_eq!(lines.wishes(false, usize::MAX).0[0].room(), FEW);
}

#[test]
fn lanes_take_turns_when_not_all_can_be_asked() {
    let mut lines = Lines::default();
    for lane in 0..3 {
        lines.join(lane, waiter("a", 1, true), false).unwrap();
    }
    let mut turns = Vec::new();
    for _ in 0..3 {
        let (wishes, _) = lines.wishes(false, 1);
        turns.push(wishes[0].lane);
        lines.ready(wishes[0].lane);
    }
    turns.sort_unstable();
    assert_eq!(turns, [0, 1, 2]);
}

#[test]
fn one_claim_asks_for_so_much_over_all_lanes_and_the_others_come_next() {
    let mut lines = Lines::default();
    for lane in 0..12 {
        lines.join(lane, waiter("a", 100, true), false).unwrap();
    }
    let counts: Vec<usize> = (0..4).map(|_| lines.wishes(false, usize::MAX).0.len()).collect();
    assert_eq!(counts, [5, 5, 2, 0]);
}

#[test]
fn a_line_stays_for_some_looks_when_nobody_stands_there() {
    let mut lines = Lines::default();
    let joined = lines.join(7, waiter("a", 1, true), false).unwrap();
    assert!(lines.leave(7, joined.number).is_some() && lines.leave(7, joined.number).is_none());
    for _ in 0..2 {
        assert_eq!(lines.watched(2), (vec![7], vec![]));
    }
    assert_eq!(lines.watched(2), (vec![], vec![7]));
    assert!(!lines.is_any());
}

#[test]
fn closed_lines_send_everybody_home_and_take_nobody() {
    let mut lines = Lines::default();
    for lane in [7, 8] {
        lines.join(lane, waiter("a", 1, true), false).unwrap();
    }
    assert_eq!(lines.dissolve(8).len(), 1);
    assert_eq!(lines.close().len(), 1);
    assert!(lines.join(7, waiter("a", 1, true), false).is_none());
}

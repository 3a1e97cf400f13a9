//! The circuits of lanes and of their parts, as this process knows them.
//!
//! Each process counts failures by itself. What opens or closes is written with the end of the attempt that did it, and
//! other processes adopt it when they next claim an item of the lane. It is no change of a definition.

use super::circuit::{Breaker, Circuit, Sign};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use std::collections::HashMap;

/// What is written of a lane itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Its circuit.
    pub circuit: Circuit,
    /// Whether its server has answered that it is gone for good, and nothing since.
    pub is_gone: bool,
    /// How often any of it, or a circuit of its parts, has changed: what is written later has a larger number.
    pub changes: i64,
}

/// What is written of a lane and of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Of itself.
    pub state: State,
    /// The circuits of its parts that are not closed.
    pub parts: Vec<(String, Part)>,
}

/// The circuit of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// The circuit.
    pub circuit: Circuit,
    /// Since when an item tries whether the part is back, when one does.
    pub probed_at: Option<DateTime<Utc>>,
}

/// A lane with a circuit breaker.
#[derive(Debug, Clone, Copy)]
pub struct Guarded {
    /// The lane.
    pub lane: i32,
    /// When it is left alone.
    pub breaker: Breaker,
    /// What was written of it when its definition was read.
    pub state: State,
}

/// Whether an item may go to its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// One at a time may, and one may be under way since this moment.
    Ajar(Option<DateTime<Utc>>),
    /// Not before this moment.
    Shut(DateTime<Utc>),
}

/// What an attempt changed in the circuits of its lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The lane's own, when it opened or closed.
    pub circuit: Option<Circuit>,
    /// Whether it is gone for good, when that is news.
    pub gone: Option<bool>,
    /// The part and its circuit, when that opened or closed.
    pub part: Option<(String, Circuit)>,
    /// Whether nobody is to be told of it.
    pub quiet: bool,
}

impl Change {
    /// Whether there is nothing to be written.
    pub fn is_none(&self) -> bool {
        self.circuit.is_none() && self.gone.is_none() && self.part.is_none()
    }
}

/// What is known of a lane.
#[derive(Debug, Default)]
struct Known {
    state: State,
    /// Whether there may be circuits of parts that were not read: the definition knows only that they changed.
    partial: bool,
    parts: HashMap<String, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    state: Part,
    /// How many items were told to wait since it last opened.
    waiting: usize,
}

impl Known {
    /// Learns what was written when the definition of the lane was read, where that is newer.
    fn learn(&mut self, state: State) {
        if self.state.changes < state.changes {
            self.state = state;
            self.partial = true;
        }
    }

    fn adopt(&mut self, written: Written) {
        let Written { state, parts } = written;
        if self.state.changes > state.changes || (self.state.changes == state.changes && !self.partial) {
            return;
        }
        let mut former = std::mem::take(&mut self.parts);
        // Those that only count failures nobody writes down.
        let counting = |counted: &Counted| counted.state.circuit.open_until.is_none();
        let opened = parts.into_iter().map(|(name, state)| {
            let counted = former.remove(&name).filter(|counted| counted.state.circuit == state.circuit);
            (name, Counted { state, waiting: counted.map_or(0, |counted| counted.waiting) })
        });
        self.parts = opened.collect();
        self.parts.extend(former.into_iter().filter(|(_, counted)| counting(counted)));
        (self.state, self.partial) = (state, false);
    }

    /// Counts what an attempt says of a part; returns it and its circuit when that opened or closed.
    fn count(
        &mut self,
        part: &str,
        sign: Sign,
        breaker: Breaker,
        now: DateTime<Utc>,
    ) -> Option<(String, Circuit)> {
        match sign {
            Sign::Unreachable => None,
            Sign::Well if self.parts.is_empty() => None,
            Sign::Well => {
                let (name, former) = self.parts.remove_entry(part)?;
                former.state.circuit.open_until.map(|_| (name, Circuit::default()))
            }
            Sign::Refused => {
                let counted = self.parts.entry(part.to_owned()).or_default();
                let before = counted.state.circuit;
                counted.state.circuit = before.after(true, breaker, now);
                if counted.state.circuit.open_until == before.open_until {
                    return None;
                }
                (counted.state.probed_at, counted.waiting) = (None, 0);
                Some((part.to_owned(), counted.state.circuit))
            }
        }
    }
}

/// The circuits of lanes.
#[derive(Debug, Default)]
pub struct Circuits(Mutex<HashMap<i32, Known>>);

impl Circuits {
    fn with<T>(&self, guarded: Guarded, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.0.lock();
        let known = all.entry(guarded.lane).or_default();
        known.learn(guarded.state);
        work(known)
    }

    /// The circuit of a lane.
    pub fn of(&self, guarded: Guarded) -> Circuit {
        self.with(guarded, |known| known.state.circuit)
    }

    /// Whether an item may go to this part of a lane.
    pub fn gate(&self, guarded: Guarded, part: &str, now: DateTime<Utc>) -> Gate {
        self.with(guarded, |known| {
            let state = known.parts.get(part).map(|counted| counted.state);
            match state.and_then(|state| Some((state, state.circuit.open_until?))) {
                None => Gate::Open,
                Some((state, _)) if !state.circuit.is_open(guarded.breaker, now) => {
                    Gate::Ajar(state.probed_at)
                }
                Some((_, until)) => Gate::Shut(until),
            }
        })
    }

    /// Places for `count` more items among those that wait for a part; returns the first of them.
    pub fn queue(&self, guarded: Guarded, part: &str, count: usize) -> usize {
        self.with(guarded, |known| {
            let Some(counted) = known.parts.get_mut(part) else { return 0 };
            let first = counted.waiting;
            counted.waiting = first.saturating_add(count);
            first
        })
    }

    /// How often the circuits of a lane have changed, as far as is known.
    pub fn changes_of(&self, guarded: Guarded) -> i64 {
        self.with(guarded, |known| known.state.changes)
    }

    /// How often the circuits of these lanes had changed in all, when what is known of them was written. Less than that
    /// where not all of it is known.
    pub fn changes(&self, lanes: impl Iterator<Item = Guarded>) -> i64 {
        lanes
            .map(|guarded| self.with(guarded, |known| if known.partial { -1 } else { known.state.changes }))
            .sum()
    }

    /// Learns what is written of a lane.
    pub fn adopt(&self, lane: i32, written: Written) {
        self.0.lock().entry(lane).or_default().adopt(written);
    }

    /// Counts an attempt; returns what is to be written: the circuits that opened or closed, and whether the server is
    /// gone if something else is written.
    pub fn record(&self, guarded: Guarded, part: &str, sign: Sign, gone: bool, now: DateTime<Utc>) -> Change {
        let breaker = guarded.breaker;
        self.with(guarded, |known| {
            let before = known.state.circuit;
            let circuit = before.after(sign == Sign::Unreachable, breaker, now);
            known.state.circuit = circuit;
            let told = gone || sign == Sign::Well;
            Change {
                circuit: (circuit.open_until != before.open_until).then_some(circuit),
                gone: told.then_some(gone).filter(|gone| *gone != known.state.is_gone),
                part: known.count(part, sign, breaker, now),
                quiet: false,
            }
        })
    }

    /// Forgets the lanes that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(i32) -> bool) {
        self.0.lock().retain(|lane, _| keep(*lane));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use std::time::Duration;

    const BREAKER: Breaker = Breaker { failures: 3, cooldown: Duration::from_secs(30) };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn written(changes: i64, is_gone: bool, parts: Vec<(String, Part)>) -> Written {
        Written { state: State { circuit: Circuit::default(), is_gone, changes }, parts }
    }

    fn sign(failed: bool) -> Sign {
        if failed { Sign::Unreachable } else { Sign::Well }
    }

    fn lane(changes: i64, failures: u32, open_until: Option<DateTime<Utc>>) -> Guarded {
        let circuit = Circuit { failures, open_until };
        Guarded { lane: 7, breaker: BREAKER, state: State { circuit, is_gone: false, changes } }
    }

    #[test]
    fn only_what_opens_or_closes_it_is_told() {
        let (circuits, lane) = (Circuits::default(), lane(1, 1, None));
        let record = |failed, now| circuits.record(lane, "s", sign(failed), false, now).circuit;
        assert_eq!(record(true, at(0)), None);
        assert_eq!(record(true, at(0)).unwrap().open_until, Some(at(30)));
        assert_eq!(record(true, at(1)), None);
        assert_eq!(record(false, at(31)), Some(Circuit::default()));
        assert_eq!(record(false, at(32)), None);
    }

    #[test]
    fn that_it_is_gone_is_told_until_that_is_written_and_so_is_that_it_is_back() {
        let (circuits, lane) = (Circuits::default(), lane(1, 0, None));
        let record = |failed, gone| circuits.record(lane, "s", sign(failed), gone, at(0)).gone;
        assert_eq!((record(true, false), record(false, false)), (None, None));
        assert_eq!((record(true, true), record(true, true)), (Some(true), Some(true)));
        circuits.adopt(lane.lane, written(2, true, Vec::new()));
        assert_eq!((record(true, true), record(false, false)), (None, Some(false)));
        assert_eq!(circuits.changes([lane].into_iter()), 2);
    }

    #[test]
    fn a_newer_row_is_adopted_and_an_older_one_is_not() {
        let circuits = Circuits::default();
        assert_eq!(circuits.of(lane(2, 0, None)), Circuit::default());
        let opened = lane(3, 3, Some(at(30)));
        assert_eq!(circuits.of(opened).open_until, Some(at(30)));
        assert_eq!(circuits.of(lane(2, 0, None)).open_until, Some(at(30)));
        assert_eq!(circuits.record(opened, "s", Sign::Well, false, at(31)).circuit, Some(Circuit::default()));
        assert_eq!(circuits.of(opened), Circuit::default());
    }

    fn refuse(circuits: &Circuits, lane: Guarded, now: i64) -> Option<(String, Circuit)> {
        circuits.record(lane, "drop_ship", Sign::Refused, false, at(now)).part
    }

    #[test]
    fn a_bad_answer_counts_for_its_part_alone_and_shows_that_the_server_is_there() {
        let (circuits, lane) = (Circuits::default(), lane(0, 0, None));
        for _ in 0..2 {
            circuits.record(lane, "drop_ship", Sign::Unreachable, false, at(0));
        }
        assert_eq!((refuse(&circuits, lane, 0), refuse(&circuits, lane, 0)), (None, None));
        assert_eq!(circuits.of(lane), Circuit::default());
        let (service, opened) = refuse(&circuits, lane, 0).unwrap();
        assert_eq!((service.as_str(), opened.open_until), ("drop_ship", Some(at(30))));
        let gate = |service, now| circuits.gate(lane, service, at(now));
        assert_eq!((gate("drop_ship", 29), gate("drop_ship", 30)), (Gate::Shut(at(30)), Gate::Ajar(None)));
        assert_eq!(gate("other", 0), Gate::Open);
        let well = |service| circuits.record(lane, service, Sign::Well, false, at(31)).part;
        assert_eq!(
            (well("other"), well("drop_ship")),
            (None, Some(("drop_ship".to_owned(), Circuit::default())))
        );
        assert_eq!((well("drop_ship"), gate("drop_ship", 31)), (None, Gate::Open));
    }

    #[test]
    fn what_is_written_of_parts_is_adopted_and_what_is_only_counted_stays() {
        let (circuits, lane) = (Circuits::default(), lane(4, 0, None));
        assert_eq!((refuse(&circuits, lane, 0), refuse(&circuits, lane, 0)), (None, None));
        // The definition says that there was something, and not what: it has to be read.
        assert!(circuits.changes([lane].into_iter()) < 4);
        let circuit = Circuit { failures: 3, open_until: Some(at(30)) };
        let state = Part { circuit, probed_at: Some(at(31)) };
        circuits.adopt(lane.lane, written(4, false, vec![("notify".to_owned(), state)]));
        assert_eq!(circuits.changes([lane].into_iter()), 4);
        assert_eq!(circuits.gate(lane, "notify", at(40)), Gate::Ajar(Some(at(31))));
        assert_eq!((circuits.queue(lane, "notify", 5), circuits.queue(lane, "notify", 1)), (0, 5));
        circuits.adopt(lane.lane, written(3, false, Vec::new()));
        assert_eq!(circuits.gate(lane, "notify", at(0)), Gate::Shut(at(30)));
        circuits.adopt(lane.lane, written(5, false, Vec::new()));
        assert_eq!(circuits.gate(lane, "notify", at(0)), Gate::Open);
        assert!(refuse(&circuits, lane, 0).is_some(), "two failures were counted before");
    }
}

//! Where in a lane the dead index entries end, so that a claim need not walk them.
//!
//! A claim deletes its dispatch rows, and the index keeps their entries until a vacuum. One idle
//! transaction anywhere holds the vacuum back, and every claim would walk every entry since. So a claim
//! starts at the lane's mark: the place after the last row it took.
//!
//! The mark is a hint that lives in this process alone. What it hides is found by a sweep, a claim without
//! a mark: rows that another process committed late, or pushed with a higher priority. Sweeps may use a
//! twentieth of the time: while nothing holds the vacuum back that is one every few milliseconds.

use crate::db::by_id::HashMap;
use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A place in the order of a lane.
pub(super) type Place = (i16, i64);

/// The start of every lane.
pub(super) const START: Place = (i16::MIN, 0);

/// The marks of all lanes of this process.
#[derive(Debug)]
pub(super) struct Marks {
    lanes: HashMap<i32, HashMap<i16, i64>>,
    current: HashMap<i32, Place>,
    next_sweep: Instant,
}

impl Marks {
    pub(super) fn new(now: Instant) -> Self {
        Self { lanes: HashMap::default(), current: HashMap::default(), next_sweep: now }
    }

    /// Where to start in `lane`.
    pub(super) fn of(&self, lane: i32) -> Place {
        self.current.get(&lane).copied().unwrap_or(START)
    }

    /// Whether the next claim has to be a sweep.
    pub(super) fn sweep_is_due(&self, now: Instant) -> bool {
        now >= self.next_sweep
    }

    /// When it will be.
    pub(super) fn next_sweep(&self) -> Instant {
        self.next_sweep
    }

    /// A sweep ended at `now` and took `cost`.
    pub(super) fn swept(&mut self, now: Instant, cost: Duration) {
        self.next_sweep = now + (cost * 20).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    }

    /// The row at `place` was taken, and with it all before it.
    pub(super) fn taken(&mut self, lane: i32, (rank, seq): Place) {
        let reached = self.lanes.entry(lane).or_default().entry(rank).or_insert(0);
        *reached = (*reached).max(seq + 1);
        let place = (rank, *reached);
        let current = self.current.entry(lane).or_insert(place);
        *current = (*current).max(place);
    }

    /// Rows of `rank` were made in this process: what comes before them may not be skipped.
    pub(super) fn made(&mut self, lane: i32, rank: i16) {
        let Some(current) = self.current.get_mut(&lane) else { return };
        if rank < current.0 {
            let reached = self.lanes.get(&lane).and_then(|ranks| ranks.get(&rank)).copied().unwrap_or(0);
            *current = (rank, reached);
        }
    }

    /// Forgets the lanes that `keep` does not know.
    pub(super) fn retain(&mut self, keep: impl Fn(i32) -> bool) {
        self.lanes.retain(|lane, _| keep(*lane));
        self.current.retain(|lane, _| keep(*lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_moves_past_what_was_taken() {
        let mut marks = Marks::new(Instant::now());
        assert_eq!(marks.of(1), START);
        marks.taken(1, (0, 41));
        assert_eq!(marks.of(1), (0, 42));
        marks.taken(1, (0, 7));
        assert_eq!(marks.of(1), (0, 42));
        assert_eq!(marks.of(2), START);
    }

    #[test]
    fn a_higher_priority_made_here_brings_the_mark_back_to_where_that_rank_was_left() {
        let mut marks = Marks::new(Instant::now());
        marks.taken(1, (-5, 10));
        marks.taken(1, (0, 99));
        marks.made(1, -5);
        assert_eq!(marks.of(1), (-5, 11));
        marks.made(1, 3);
        assert_eq!(marks.of(1), (-5, 11));
    }

    #[test]
    fn sweeps_use_a_twentieth_of_the_time_and_come_at_least_every_second() {
        let start = Instant::now();
        let mut marks = Marks::new(start);
        assert!(marks.sweep_is_due(start));
        marks.swept(start, Duration::from_millis(5));
        assert!(!marks.sweep_is_due(start + Duration::from_millis(99)));
        assert!(marks.sweep_is_due(start + Duration::from_millis(100)));
        marks.swept(start, Duration::from_mins(1));
        assert!(marks.sweep_is_due(start + LONGEST_PAUSE));
    }
}

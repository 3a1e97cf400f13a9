//! How the room of one process is shared among lanes, whatever concurrency their definitions ask for.
//!
//! ```text
//!   room ─┬─ lanes of our own: all but an eighth ──────── a lane has at most 8 times what it leaves free of that
//!         └─ lanes that wait for foreign servers: all but a quarter
//!                └─ each kind (endpoints, pollers, http handlers) has at most twice what it leaves free of that,
//!                   four times as much including the first items of lanes
//!                       └─ a lane has at most as much as it leaves free
//! ```
//!
//! A lane that is alone gets most of the room; the more lanes there are, the less each gets. A sixteenth is reserved for
//! the first items of lanes, and half of that for lanes of our own: a lane with nothing running gets a place at once, and
//! more as soon as the others have fewer. No number of lanes or kinds has to be known in advance.

use super::Lane;
use super::desk::{Busy, Kind};
use crate::db::by_id::HashMap;

/// The most items of one lane in one claim.
const LANE_BATCH: usize = 500;
/// Lanes that wait for foreign servers leave one part in this many to our own.
const OF_OURS: usize = 4;
/// Our own lanes leave one part in this many to those that wait for foreign servers.
const OF_STRANGERS: usize = 8;
/// One part in this many is reserved for the first items of lanes.
const NEWCOMERS: usize = 16;
/// A lane of our own may have this many times what it leaves free.
const OWN_LANE: usize = 8;
/// A kind that waits for foreign servers may have this many times what it leaves free.
const KIND: usize = 2;
/// The same, including the first items of its lanes.
const FIRST: usize = 4;
/// A lane of such a kind may have this many times what it leaves free.
const LANE: usize = 1;

/// The room of a process while a claim is being put together.
#[derive(Debug)]
pub(super) struct Share {
    capacity: usize,
    kinds: HashMap<Kind, usize>,
    /// Whether nothing may be claimed.
    is_closed: bool,
}

impl Share {
    /// The room of a process that runs at most `capacity` items.
    pub(super) fn new(capacity: usize, busy: &Busy) -> Self {
        Self { capacity, kinds: busy.kinds.clone(), is_closed: false }
    }

    /// Allows no further claims.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// The most items that a lane of this kind may have now, when `busy` of its items run already.
    pub(super) fn most(&self, lane: Lane, kind: Kind, busy: usize) -> usize {
        if self.is_closed {
            return busy;
        }
        let total: usize = self.kinds.values().sum();
        let ours = self.kinds.get(&None).copied().unwrap_or(0);
        let left = self.capacity.saturating_sub(total);
        let newcomers = self.capacity / NEWCOMERS;
        let (more, first) = if kind.is_some() {
            let allowed = self.allowed(OF_OURS).saturating_sub(total - ours);
            let free = left.min(allowed);
            let of_kind = self.kinds.get(&kind).copied().unwrap_or(0);
            let more = grows_by(busy, LANE, free.saturating_sub(newcomers));
            let has_room = of_kind == 0 || grows_by(of_kind, FIRST, allowed) > 0;
            (more.min(grows_by(of_kind, KIND, allowed)), has_room && free > newcomers / 2)
        } else {
            let free = left.min(self.allowed(OF_STRANGERS).saturating_sub(ours));
            (grows_by(busy, OWN_LANE, free.saturating_sub(newcomers)), free > 0)
        };
        let more = if busy == 0 { more.max(usize::from(first)) } else { more };
        lane.concurrency.min(busy + more)
    }

    /// How many more items the lane may claim in one claim.
    pub(super) fn room(&self, lane: Lane, kind: Kind, busy: usize) -> usize {
        self.most(lane, kind, busy).saturating_sub(busy).min(LANE_BATCH)
    }

    /// Takes room for `count` more items of this kind.
    pub(super) fn take(&mut self, kind: Kind, count: usize) {
        *self.kinds.entry(kind).or_insert(0) += count;
    }

    /// The room without the part that is left to the others.
    fn allowed(&self, part: usize) -> usize {
        self.capacity - self.capacity / part
    }
}

/// How many more items something with `busy` of them may take from `free`, so that it has at most `times` what it leaves.
fn grows_by(busy: usize, times: usize, free: usize) -> usize {
    (times * free).saturating_sub(busy) / (times + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: usize = 4096;

    /// Lanes that have asked for room, and what they got.
    struct Process {
        share: Share,
        lanes: Vec<(Lane, Kind, usize)>,
    }

    impl Process {
        fn new(capacity: usize) -> Self {
            Self { share: Share::new(capacity, &Busy::default()), lanes: Vec::new() }
        }

        /// Adds lanes, each of which claims in turn until none gets any more; returns how much the last of them has.
        fn ask(&mut self, count: usize, concurrency: usize, kind: Kind) -> usize {
            let lane = Lane { id: 7, concurrency, yields: kind.is_some() };
            self.lanes.extend(std::iter::repeat_n((lane, kind, 0), count));
            loop {
                let before = self.total();
                for (lane, kind, busy) in &mut self.lanes {
                    let room = self.share.room(*lane, *kind, *busy);
                    *busy += room;
                    self.share.take(*kind, room);
                }
                if self.total() == before {
                    return self.lanes.last().map_or(0, |(_, _, busy)| *busy);
                }
            }
        }

        fn total(&self) -> usize {
            self.share.kinds.values().sum()
        }
    }

    #[test]
    fn a_lane_alone_gets_what_it_asks_for_or_most_of_the_room() {
        let lane = |concurrency, yields| Lane { id: 7, concurrency, yields };
        for (kind, most) in [(None, 2958), (Some(1), 1408)] {
            let share = Share::new(CAPACITY, &Busy::default());
            let yields = kind.is_some();
            assert_eq!(share.room(lane(8, yields), kind, 0), 8);
            assert_eq!(share.room(lane(1000, yields), kind, 0), LANE_BATCH);
            assert_eq!(share.room(lane(8, yields), kind, 9), 0);
            assert_eq!(Process::new(CAPACITY).ask(1, 10_000, kind), most);
            assert_eq!(Process::new(1).ask(1, 10, kind), 1, "however little there is");
        }
    }

    #[test]
    fn whoever_comes_last_gets_some_at_once_whatever_the_others_took() {
        let mut process = Process::new(CAPACITY);
        for _ in 0..20 {
            assert!(process.ask(1, 10_000, Some(0)) > 0);
            assert!(process.ask(1, 10_000, None) > 0);
        }
        assert!(process.ask(1, 10_000, Some(1)) > 0);
        assert!(process.ask(1, 10_000, Some(2)) > 0);
        assert_eq!(process.ask(1, 1, None), 1);
    }

    #[test]
    fn endpoints_that_hang_leave_room_for_those_at_which_nothing_runs() {
        let mut process = Process::new(CAPACITY);
        assert!(process.ask(600, 8, Some(1)) > 0);
        assert!(process.lanes.iter().all(|(_, _, busy)| *busy > 0));
        assert!(process.total() < CAPACITY * 5 / 8, "{}", process.total());
    }

    #[test]
    fn thousands_of_pollers_that_hang_leave_room_for_endpoints_and_for_our_own() {
        let mut process = Process::new(CAPACITY);
        process.ask(5000, 1, Some(2));
        assert!(process.total() <= CAPACITY * 5 / 8, "{}", process.total());
        assert_eq!(process.ask(1, 8, Some(1)), 8);
        assert_eq!(process.ask(1, 64, None), 64);
    }

    proptest! {
        #[test]
        fn nobody_takes_what_is_for_others(
            capacity in 16usize..5000,
            asks in proptest::collection::vec((1usize..40, 1usize..12_000, 0usize..4), 1..12),
        ) {
            let mut process = Process::new(capacity);
            for (count, concurrency, kind) in asks {
                process.ask(count, concurrency, kind.checked_sub(1));
                let ours = process.share.kinds.get(&None).copied().unwrap_or(0);
                prop_assert!(process.total() <= capacity);
                prop_assert!(ours <= capacity - capacity / OF_STRANGERS);
                prop_assert!(process.total() - ours <= capacity - capacity / OF_OURS);
                for (lane, _, busy) in &process.lanes {
                    prop_assert!(*busy <= lane.concurrency);
                }
            }
        }
    }
}

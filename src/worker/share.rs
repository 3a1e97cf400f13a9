//! How the room of one process is shared among lanes, so that those whose items hang leave some to the others.

use super::Lane;

/// The most items of one lane in one claim.
const LANE_BATCH: usize = 500;
/// This part of the capacity is not for lanes that yield, except for one item in each.
const RESERVED: usize = 4;

/// How many items a lane may claim that runs `busy` items, when the process has `left` room of `capacity`.
pub(super) fn room(lane: Lane, busy: usize, left: usize, capacity: usize) -> usize {
    let most = match (lane.yields, busy) {
        (false, _) => left,
        (true, 0) => left.saturating_sub(capacity / RESERVED).max(left.min(1)),
        (true, _) => left.saturating_sub(capacity / RESERVED),
    };
    lane.concurrency.saturating_sub(busy).min(LANE_BATCH).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 4096;

    fn lane(concurrency: usize, yields: bool) -> Lane {
        Lane { id: 7, concurrency, yields }
    }

    #[test]
    fn a_lane_alone_gets_what_it_asks_for_and_one_that_does_not_yield_gets_all() {
        for yields in [true, false] {
            assert_eq!(room(lane(8, yields), 0, CAPACITY, CAPACITY), 8);
            assert_eq!(room(lane(1000, yields), 0, CAPACITY, CAPACITY), LANE_BATCH);
            assert_eq!(room(lane(8, yields), 9, CAPACITY, CAPACITY), 0);
            assert_eq!((room(lane(8, yields), 0, 1, 1), room(lane(8, yields), 0, 0, 1)), (1, 0));
        }
        assert_eq!(room(lane(10_000, false), 4000, 96, CAPACITY), 96);
    }

    #[test]
    fn endpoints_that_hang_leave_room_for_those_at_which_nothing_runs() {
        let endpoint = lane(8, true);
        let (mut busy, mut left) = (vec![0; 600], CAPACITY);
        // However often they ask, and whoever asks first.
        for turn in 0..20 {
            let count = busy.len();
            for lane in 0..count {
                let running = &mut busy[(lane + turn * 37) % count];
                let more = room(endpoint, *running, left, CAPACITY);
                (*running, left) = (*running + more, left - more);
            }
        }
        assert!(busy.iter().all(|busy| *busy > 0));
        assert!(left > 700, "{left}");
        assert_eq!((room(endpoint, 0, left, CAPACITY), room(endpoint, 1, left, CAPACITY)), (1, 0));
    }
}

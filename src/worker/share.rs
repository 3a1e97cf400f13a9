//! How the room of one process is shared among lanes, so that those whose items hang leave some to the others.

/// The most items of one lane in one claim.
const LANE_BATCH: usize = 500;
/// This part of the capacity is for lanes in which nothing runs, an item each.
const RESERVED: usize = 4;

/// How many items a lane may claim that has `free` room of its own and runs `busy` items, when the process has `left`
/// room of `capacity`.
pub(super) fn room(free: usize, busy: usize, left: usize, capacity: usize) -> usize {
    let shared = left.saturating_sub(capacity / RESERVED);
    let most = if busy == 0 { shared.max(left.min(1)) } else { shared };
    free.min(LANE_BATCH).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 4096;

    #[test]
    fn a_lane_alone_gets_what_it_asks_for() {
        assert_eq!(room(8, 0, CAPACITY, CAPACITY), 8);
        assert_eq!(room(1000, 0, CAPACITY, CAPACITY), LANE_BATCH);
        assert_eq!(room(500, 500, CAPACITY - 500, CAPACITY), 500);
        assert_eq!((room(8, 0, 1, 1), room(8, 0, 0, 1)), (1, 0));
    }

    #[test]
    fn lanes_that_hang_leave_room_for_those_in_which_nothing_runs() {
        let mut busy = vec![0; 600];
        let mut left = CAPACITY;
        // However often they ask, and whoever asks first.
        for turn in 0..20 {
            let count = busy.len();
            for lane in 0..count {
                let lane = &mut busy[(lane + turn * 37) % count];
                let more = room(8 - *lane, *lane, left, CAPACITY);
                (*lane, left) = (*lane + more, left - more);
            }
        }
        assert!(busy.iter().all(|busy| *busy > 0));
        assert!(left > 700, "{left}");
        assert_eq!((room(8, 0, left, CAPACITY), room(7, 1, left, CAPACITY)), (1, 0));
    }
}

//! Makes ids: UUIDs of version 7 whose time is the database's, whatever this machine's clock says.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use std::time::Instant;
use uuid::{ContextV7, Timestamp, Uuid};

/// A clock that says less than before by more than this was set back: what it says then is the present.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// The maker of ids of one process. Ids of one process only grow, unless the database's clock is set back.
#[derive(Debug, Default)]
pub struct Ids(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    context: ContextV7,
    /// What the database said that it was, and when.
    clock: Option<(DateTime<Utc>, Instant)>,
}

impl State {
    fn now(&self) -> Option<DateTime<Utc>> {
        self.clock.map(|(then, at)| then + at.elapsed())
    }
}

impl Ids {
    /// The database said that it is `now`. Told at the start and with every heartbeat.
    pub fn set_clock(&self, now: DateTime<Utc>) {
        let mut state = self.0.lock();
        if state.now().is_some_and(|before| now < before - SET_BACK) {
            // The context would hold on to the latest time that it has seen: for weeks, once that was a wrong one.
            state.context = ContextV7::new();
        }
        state.clock = Some((now, Instant::now()));
    }

    /// The database's time, as last heard plus what has passed since; `None` before it was heard.
    pub fn now(&self) -> Option<DateTime<Utc>> {
        self.0.lock().now()
    }

    /// A new id. Before the database has been heard (a process that never reached it) the time is 0, which
    /// the default partition takes.
    pub fn next(&self) -> Uuid {
        let state = self.0.lock();
        let now = state.now().unwrap_or_default();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(&state.context, seconds, now.timestamp_subsec_nanos()))
    }
}

/// The smallest id of a moment, as SQL's `uuid_v7_floor` has it: the bound of a partition or of a listing.
pub fn floor(at: DateTime<Utc>) -> Uuid {
    // 48 bits: nothing before 1970, nothing after 10889.
    const MOST: i64 = (1 << 48) - 1;
    Uuid::from_u128(u128::from(at.timestamp_millis().clamp(0, MOST).unsigned_abs()) << 80)
}

/// The moment, or the nearest that the time inside an id can be compared with: 1970 to 9999.
pub fn within_ids(at: DateTime<Utc>) -> DateTime<Utc> {
    const LAST: i64 = 253_402_300_799;
    at.clamp(DateTime::UNIX_EPOCH, DateTime::from_timestamp_secs(LAST).unwrap_or(DateTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_only_grow_and_carry_the_databases_time() {
        let ids = Ids::default();
        let then = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        ids.set_clock(then);
        let made: Vec<Uuid> = (0..1000).map(|_| ids.next()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        let (seconds, _) = made[0].get_timestamp().map_or((0, 0), |time| time.to_unix());
        assert!((1_800_000_000..1_800_000_060).contains(&seconds));
    }

    #[test]
    fn a_clock_that_is_heard_a_little_late_does_not_make_smaller_ids() {
        let ids = Ids::default();
        let then = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        ids.set_clock(then);
        let before = ids.next();
        ids.set_clock(then - TimeDelta::milliseconds(500));
        assert!(before < ids.next());
    }

    #[test]
    fn ids_go_back_to_the_present_once_the_databases_clock_does() {
        let ids = Ids::default();
        let then = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
        let seconds = |id: Uuid| id.get_timestamp().map_or(0, |time| time.to_unix().0);
        ids.set_clock(then);
        let before = ids.next();
        ids.set_clock(then + TimeDelta::days(40));
        assert!(seconds(ids.next()) >= 1_800_000_000 + 40 * 86_400);
        ids.set_clock(then);
        let made: Vec<Uuid> = (0..1000).map(|_| ids.next()).collect();
        assert!((1_800_000_000..1_800_000_060).contains(&seconds(made[0])));
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]) && seconds(before) <= seconds(made[0]));
    }
}

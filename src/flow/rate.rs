//! A rate limit: when each of some items may go, by the generic cell rate algorithm.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// An item waits for its slot in memory for at most this long; one that would wait longer goes back.
pub(super) const HORIZON: Duration = Duration::from_secs(30);

/// A rate limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Items a second in the long run.
    pub per_second: f64,
    /// How many may go at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// The time between two items in the long run, in seconds.
    pub(super) fn interval(self) -> f64 {
        1.0 / self.per_second
    }

    /// How far items may run ahead of that, in seconds.
    pub(super) fn tolerance(self) -> f64 {
        f64::from(self.burst.saturating_sub(1)) * self.interval()
    }

    /// How many items may be claimed at once, so that none waits much longer than [`HORIZON`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a bound, cut to what it can be"
    )]
    pub(super) fn room(self) -> usize {
        ((HORIZON.as_secs_f64() * self.per_second).ceil() as usize).saturating_add(self.burst as usize).max(1)
    }

    /// How long the item in this place of a batch waits, when the bucket is `ahead` seconds ahead of now.
    #[expect(clippy::cast_precision_loss, reason = "places are few")]
    pub(super) fn wait(self, ahead: f64, place: usize) -> Duration {
        let wait = ahead + place as f64 * self.interval() - self.tolerance();
        let wait = Duration::try_from_secs_f64(wait.max(0.0)).unwrap_or(Duration::from_hours(1));
        Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// When the next item may go, where slots are given up to `due_at`; `None` when one may now. What was given before the
    /// clock was set back does not count.
    pub fn next_at(self, due_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = |seconds: f64| TimeDelta::from_std(Duration::try_from_secs_f64(seconds).ok()?).ok();
        let furthest = after(self.interval() + self.tolerance() + HORIZON.as_secs_f64() + 1.0)?;
        let next = due_at - after(self.tolerance())?;
        (due_at <= now + furthest && next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_the_rate() {
        let rate = Rate { per_second: 10.0, burst: 3 };
        let waits: Vec<u128> = (0..6).map(|place| rate.wait(0.0, place).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(rate.wait(1.0, 0).as_millis(), 800);
        assert_eq!(rate.room(), 303);
    }

    #[test]
    fn the_next_goes_when_the_bucket_has_room_again() {
        let (rate, now) = (Rate { per_second: 1.0, burst: 3 }, DateTime::<Utc>::UNIX_EPOCH);
        let at = |seconds| now + TimeDelta::seconds(seconds);
        assert_eq!(rate.next_at(at(-5), now), None);
        assert_eq!(rate.next_at(at(2), now), None, "two of the burst are left to be made up for");
        assert_eq!(rate.next_at(at(3), now), Some(at(1)));
        assert_eq!(rate.next_at(at(3600), now), None, "the clock was set back");
    }

    #[test]
    fn a_slow_rate_lets_one_at_a_time() {
        let rate = Rate { per_second: 1.0 / 60.0, burst: 1 };
        assert_eq!((rate.wait(0.0, 0).as_secs(), rate.wait(0.0, 1).as_secs()), (0, 60));
        assert_eq!(rate.room(), 2);
        assert!(Rate { per_second: f64::MAX, burst: u32::MAX }.room() > 1);
    }
}

//! Which of a schedule's moments come: in time, late, or not at all.
//!
//! A moment that nobody saw to within [`LATE`] was missed. A schedule that was late finds the moment that has come just
//! now, if there is one, and goes on in step; what it missed is made up for once, or not at all, as it says.

use super::timing::Timing;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// A moment that is seen to within this time came in time: a process that is started anew takes no longer.
pub const LATE: Duration = Duration::from_mins(1);

/// What becomes of moments that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// It fires once for all of them.
    RunOnce,
}

/// The moments of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Cadence {
    /// When it fires.
    pub timing: Timing,
    /// By how much each moment comes later, so that not all that is to happen on the hour happens at once.
    pub offset: Duration,
}

/// What is to be done about a schedule that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its moment.
    pub at: DateTime<Utc>,
    /// What becomes of it.
    pub comes: Comes,
    /// When it fires next. `None` beyond the calendar.
    pub next: Option<DateTime<Utc>>,
}

/// What becomes of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    /// It fires.
    Now,
    /// It was missed.
    Missed,
    /// It is still to come: it was worked out by a clock that was set back since.
    NotYet,
}

impl From<Timing> for Cadence {
    fn from(timing: Timing) -> Self {
        Self { timing, offset: Duration::ZERO }
    }
}

impl Cadence {
    /// When it fires first, if it begins `now`. `None` beyond the calendar.
    pub fn first_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.timing.next_after(now)?.checked_add_signed(self.offset()?)
    }

    /// When it fires after `now`, in step with the moment `last`.
    fn following(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset()?;
        let earlier = |moment: DateTime<Utc>| moment.checked_sub_signed(offset);
        self.timing.following(earlier(last)?, earlier(now)?)?.checked_add_signed(offset)
    }

    fn offset(&self) -> Option<TimeDelta> {
        TimeDelta::from_std(self.offset).ok()
    }

    /// What is to be done `now` about a schedule that was to fire `at`.
    pub fn turn(&self, at: DateTime<Utc>, now: DateTime<Utc>, missed: Missed) -> Turn {
        if at > now {
            return Turn { at, comes: Comes::NotYet, next: self.first_after(now) };
        }
        let in_time = now - LATE;
        let recent = if at >= in_time { Some(at) } else { self.following(at, in_time) };
        let (at, comes) = match (recent.filter(|recent| *recent <= now), missed) {
            (Some(recent), _) => (recent, Comes::Now),
            (None, Missed::RunOnce) => (at, Comes::Now),
            (None, Missed::Skip) => (at, Comes::Missed),
        };
        Turn { at, comes, next: self.following(at, now) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::http::reader::Reader;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn cadence(document: &Value, offset: Duration) -> Cadence {
        let (mut timing, mut violations) = (None, Vec::new());
        Reader::within(document, String::new(), &mut violations, |reader| {
            timing = Timing::read(reader, "time_zone");
        });
        assert!(violations.is_empty(), "{violations:?}");
        Cadence { timing: timing.unwrap(), offset }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn daily() -> Cadence {
        cadence(&json!({ "cron": "0 3 * * *" }), Duration::ZERO)
    }

    #[test]
    fn a_moment_that_is_seen_to_soon_enough_comes_whatever_is_said_of_missed_ones() {
        for missed in [Missed::Skip, Missed::RunOnce] {
            let turn = daily().turn(at("2026-07-01T03:00:00Z"), at("2026-07-01T03:01:00Z"), missed);
            let next = Some(at("2026-07-02T03:00:00Z"));
            assert_eq!(turn, Turn { at: at("2026-07-01T03:00:00Z"), comes: Comes::Now, next });
        }
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_or_not_at_all() {
        let (missed, now) = (at("2026-07-01T03:00:00Z"), at("2026-07-04T12:00:00Z"));
        let next = Some(at("2026-07-05T03:00:00Z"));
        let turn = daily().turn(missed, now, Missed::RunOnce);
        assert_eq!(turn, Turn { at: missed, comes: Comes::Now, next });
        let turn = daily().turn(missed, now, Missed::Skip);
        assert_eq!(turn, Turn { at: missed, comes: Comes::Missed, next });
    }

    #[test]
    fn who_was_late_finds_the_moment_that_has_just_come() {
        // Off since the day before, and back ten seconds after the hour.
        for missed in [Missed::Skip, Missed::RunOnce] {
            let turn = daily().turn(at("2026-07-01T03:00:00Z"), at("2026-07-02T03:00:10Z"), missed);
            let (at, next) = (at("2026-07-02T03:00:00Z"), Some(at("2026-07-03T03:00:00Z")));
            assert_eq!(turn, Turn { at, comes: Comes::Now, next });
        }
    }

    #[test]
    fn an_offset_shifts_every_moment_and_none_comes_twice_or_is_left_out() {
        let shifted = cadence(&json!({ "cron": "0 * * * *" }), Duration::from_mins(50));
        assert_eq!(shifted.first_after(at("2026-07-01T00:10:00Z")), Some(at("2026-07-01T01:50:00Z")));
        let (mut moment, mut seen) = (at("2026-07-01T01:50:00Z"), Vec::new());
        for _ in 0..3 {
            let turn = shifted.turn(moment, moment + Duration::from_millis(3), Missed::Skip);
            seen.push(turn.at.to_string());
            moment = turn.next.unwrap();
        }
        let expected = ["01:50", "02:50", "03:50"].map(|time| format!("2026-07-01 {time}:00 UTC"));
        assert_eq!(seen, expected);
    }

    #[test]
    fn where_clocks_change_a_night_has_one_moment_on_both_days() {
        // Summer time begins on 29 March 2026, when 02:30 does not come, and ends on 25 October, when it comes twice.
        let nightly = json!({ "cron": "30 2 * * *", "time_zone": "Europe/Berlin" });
        for (offset, before, expected) in [
            (0, "2026-03-28T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]),
            (0, "2026-10-24T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]),
            (10, "2026-03-28T12:00:00Z", ["2026-03-29T01:10", "2026-03-30T00:40", "2026-03-31T00:40"]),
            (40, "2026-10-24T12:00:00Z", ["2026-10-25T01:10", "2026-10-26T02:10", "2026-10-27T02:10"]),
        ] {
            let cadence = cadence(&nightly, Duration::from_mins(offset));
            let (mut moment, mut seen) = (cadence.first_after(at(before)).unwrap(), Vec::new());
            for _ in 0..expected.len() {
                let turn = cadence.turn(moment, moment + Duration::from_secs(2), Missed::Skip);
                assert_eq!(turn.comes, Comes::Now);
                seen.push(turn.at.format("%FT%R").to_string());
                moment = turn.next.unwrap();
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_fires_nothing_and_has_the_moment_worked_out_anew() {
        let turn = daily().turn(at("2026-09-01T03:00:00Z"), at("2026-07-01T12:00:00Z"), Missed::RunOnce);
        assert_eq!((turn.comes, turn.next), (Comes::NotYet, Some(at("2026-07-02T03:00:00Z"))));
    }

    proptest! {
        #[test]
        fn whenever_it_is_seen_to_it_goes_on_after_now_and_fires_nothing_that_is_still_to_come(
            every in 1_000..=10_000_000_u64, offset in 0..=10_000_000_u64, late in 0..=1_000_000_000_000_i64,
            hourly: bool, skip: bool,
        ) {
            let offset = Duration::from_millis(offset);
            let cadence = if hourly {
                cadence(&json!({ "cron": "7 * * * *" }), offset)
            } else {
                Cadence { timing: Timing::Every(Duration::from_millis(every)), offset }
            };
            let missed = if skip { Missed::Skip } else { Missed::RunOnce };
            let first = cadence.first_after(at("2026-07-01T00:00:00Z")).unwrap();
            let now = first + TimeDelta::microseconds(late);
            let turn = cadence.turn(first, now, missed);
            prop_assert!(turn.at >= first && turn.at <= now);
            prop_assert!(turn.next.unwrap() > now);
            prop_assert_eq!(turn.comes == Comes::Missed, skip && now - turn.at > TimeDelta::from_std(LATE).unwrap());
        }
    }
}

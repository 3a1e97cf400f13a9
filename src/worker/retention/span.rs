//! Where weeks begin, and what of one is missing.

use crate::worker::store::Week;
use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use uuid::Uuid;

/// How long a week is.
pub(super) const WEEK: TimeDelta = TimeDelta::days(7);
/// How far ahead weeks are made.
pub(super) const AHEAD: TimeDelta = TimeDelta::days(14);

/// The Monday, 00:00 UTC, at or before a moment.
pub(super) fn monday(at: DateTime<Utc>) -> DateTime<Utc> {
    let days = TimeDelta::days(i64::from(at.weekday().num_days_from_monday()));
    (at.date_naive() - days).and_time(chrono::NaiveTime::MIN).and_utc()
}

/// The week that an id belongs into: two ids of one week have the same.
pub fn week_of(id: Uuid) -> i64 {
    // 1970 began on a Thursday.
    const MONDAY: u128 = 4 * 86_400_000;
    let milliseconds = id.as_u128() >> 80;
    i64::try_from((milliseconds + 7 * 86_400_000 - MONDAY) / (7 * 86_400_000)).unwrap_or(i64::MAX)
}

/// What of the span from `starts` to `ends` is in none of these weeks, which are in order.
pub(super) fn gaps(
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
    weeks: &[Week],
) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let mut gaps = Vec::new();
    let mut from = starts;
    for week in weeks.iter().filter(|week| week.ends > starts && week.starts < ends) {
        if week.starts > from {
            gaps.push((from, week.starts));
        }
        from = from.max(week.ends);
    }
    if from < ends {
        gaps.push((from, ends));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> DateTime<Utc> {
        // Day 0 is Monday, 2026-11-23.
        DateTime::from_timestamp(1_795_392_000, 0).unwrap_or_default() + TimeDelta::days(n)
    }

    fn week(from: i64, to: i64) -> Week {
        Week { starts: day(from), ends: day(to), suffix: String::new() }
    }

    #[test]
    fn a_week_begins_on_monday() {
        for n in 0..7 {
            assert_eq!(monday(day(n) + TimeDelta::hours(23)), day(0));
        }
        assert_eq!(monday(day(7)), day(7));
    }

    #[test]
    fn ids_are_of_one_week_from_monday_to_monday() {
        let id = |at| crate::db::ids::floor(at);
        assert_eq!(week_of(id(day(0))), week_of(id(day(7) - TimeDelta::milliseconds(1))));
        assert_eq!(week_of(id(day(7))), week_of(id(day(0))) + 1);
    }

    #[test]
    fn gaps_are_what_no_week_covers() {
        assert_eq!(gaps(day(0), day(7), &[]), [(day(0), day(7))]);
        assert_eq!(gaps(day(0), day(7), &[week(-7, 0), week(0, 7), week(7, 14)]), []);
        assert_eq!(gaps(day(0), day(7), &[week(1, 2), week(3, 7)]), [(day(0), day(1)), (day(2), day(3))]);
        assert_eq!(gaps(day(0), day(7), &[week(0, 3)]), [(day(3), day(7))]);
    }
}

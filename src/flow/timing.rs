//! When something happens by itself: at an interval, or by cron in a time zone.
//!
//! `{every}` or `{cron, timezone?}`, where the name of the zone's member is its feature's. Where clocks change, croner's rules hold: a fixed time that the clock skips
//! comes right after the gap, one that it repeats comes once; intervals (`*/15 * * * *`) go on evenly.

use crate::http::reader::Reader;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde_json::Value;
use std::time::Duration;

/// The shortest and the longest interval.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(366 * 24);
/// The longest cron expression, in characters.
const MAX_CRON: usize = 255;

/// When something happens by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// At an interval.
    Every(Duration),
    /// At the moments of a cron expression, on the clocks of a place.
    Cron(Box<Cron>, Tz),
}

impl Timing {
    /// Reads `every`, or `cron` and the member `zone`; `None` if a rule is broken, which is noted.
    pub fn read(reader: &mut Reader<'_>, zone: &'static str) -> Option<Self> {
        let (has_every, has_cron) = (reader.has("every"), reader.has("cron"));
        let every = reader.duration("every", SHORTEST..=LONGEST);
        let cron = reader.take("cron").map(expression);
        let timezone = reader.take(zone).map(|name| name.as_str()?.parse::<Tz>().ok());
        if let Some(Err(why)) = &cron {
            reader.note("/cron", "cron", *why);
        }
        if timezone == Some(None) {
            reader.note(
                &format!("/{zone}"),
                "timezone",
                "must be a name such as \"Europe/Berlin\" or \"UTC\"",
            );
        }
        match (has_every, has_cron) {
            (false, false) => {
                reader.note("", "required", "must have the property \"every\" or \"cron\"");
                None
            }
            (true, true) => {
                reader.note("", "oneOf", "must have only one of the properties \"every\" and \"cron\"");
                None
            }
            (true, false) => {
                if timezone.is_some() {
                    reader.note(&format!("/{zone}"), "dependentRequired", "belongs to \"cron\"");
                }
                every.map(Self::Every)
            }
            (false, true) => Some(Self::Cron(Box::new(cron?.ok()?), timezone.unwrap_or(Some(Tz::UTC))?)),
        }
    }

    /// The first moment after this one, from which an interval counts. `None` beyond the calendar.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(every) => moment.checked_add_signed(TimeDelta::from_std(*every).ok()?),
            Self::Cron(cron, timezone) => {
                let next = cron.find_next_occurrence(&moment.with_timezone(timezone), false).ok()?;
                Some(next.with_timezone(&Utc))
            }
        }
    }

    /// The first moment after `now`, when `last` was one: an interval does not drift, and what was missed is
    /// not made up for. `None` beyond the calendar.
    pub fn following(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Self::Every(every) = self else { return self.next_after(last.max(now)) };
        let every = i64::try_from(every.as_micros()).ok()?;
        let passed = (now - last).num_microseconds()?.max(0);
        last.checked_add_signed(TimeDelta::microseconds((passed / every + 1).checked_mul(every)?))
    }
}

fn expression(value: &Value) -> Result<Cron, &'static str> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let text = value.as_str().filter(|text| text.len() <= MAX_CRON);
    let cron = text
        .and_then(|text| parser.parse(text).ok())
        .ok_or("must be a cron expression of five fields, such as \"0 6 * * *\"")?;
    // The search ends in the year 5000: by then 30 February has not come.
    match cron.find_next_occurrence(&DateTime::UNIX_EPOCH, false) {
        Ok(_) => Ok(cron),
        Err(_) => Err("names a day that never comes"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(document: &Value) -> Result<Timing, Vec<(String, String)>> {
        let (mut timing, mut violations) = (None, Vec::new());
        Reader::within(document, "/schedule".to_owned(), &mut violations, |reader| {
            timing = Timing::read(reader, "timezone");
        });
        let found = violations.into_iter().map(|violation| (violation.pointer, violation.keyword));
        let found: Vec<_> = found.collect();
        if found.is_empty() { Ok(timing.unwrap()) } else { Err(found) }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The moments of a cron expression in Berlin after one, in UTC.
    fn berlin(cron: &str, after: &str, count: usize) -> Vec<String> {
        let timing = read(&json!({ "cron": cron, "timezone": "Europe/Berlin" })).unwrap();
        let moments = std::iter::successors(timing.next_after(at(after)), |last| timing.next_after(*last));
        moments.take(count).map(|moment| moment.format("%FT%RZ").to_string()).collect()
    }

    #[test]
    fn every_broken_rule_is_noted() {
        let found = |document| read(&document).unwrap_err();
        let one = |pointer: &str, keyword: &str| vec![(pointer.to_owned(), keyword.to_owned())];
        assert_eq!(found(json!([])), one("/schedule", "type"));
        assert_eq!(found(json!({})), one("/schedule", "required"));
        assert_eq!(found(json!({ "every": "5m", "cron": "* * * * *" })), one("/schedule", "oneOf"));
        let zone = json!({ "every": "5m", "timezone": "UTC" });
        assert_eq!(found(zone), one("/schedule/timezone", "dependentRequired"));
        for (every, keyword) in [
            (json!("soon"), "duration"),
            (json!(300), "duration"),
            (json!("1s 1us"), "duration"),
            (json!("999ms"), "range"),
            (json!("367days"), "range"),
        ] {
            assert_eq!(found(json!({ "every": every })), one("/schedule/every", keyword));
        }
        let odd = ["", "* * * *", "0 * * * * *", "* * * * * 2030", "61 * * * *", "0 6 30 2 *", "a b c d e"];
        for cron in odd.into_iter().map(Value::from).chain([json!(5), json!(" ".repeat(256))]) {
            assert_eq!(found(json!({ "cron": cron })), one("/schedule/cron", "cron"), "{cron}");
        }
        let several = found(json!({ "cron": "x", "timezone": "Mars", "a/b": 1 }));
        let pointers: Vec<&str> = several.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/schedule/cron", "/schedule/timezone", "/schedule/a~1b"]);
    }

    #[test]
    fn a_time_of_day_is_one_on_the_clocks_of_the_place() {
        // Summer time begins on 29 March 2026 and ends on 25 October.
        let mornings = berlin("0 6 * * *", "2026-03-28T00:00:00Z", 3);
        assert_eq!(mornings, ["2026-03-28T05:00Z", "2026-03-29T04:00Z", "2026-03-30T04:00Z"]);
        let utc = read(&json!({ "cron": "0 6 * * *" })).unwrap();
        assert_eq!(utc.next_after(at("2026-07-01T06:00:00Z")), Some(at("2026-07-02T06:00:00Z")));
        assert_eq!(utc.next_after(at("2026-07-01T05:59:59.5Z")), Some(at("2026-07-01T06:00:00Z")));
        let mondays = berlin("30 7 * * MON", "2026-07-01T00:00:00Z", 2);
        assert_eq!(mondays, ["2026-07-06T05:30Z", "2026-07-13T05:30Z"]);
    }

    #[test]
    fn a_time_that_the_clock_skips_comes_right_after_the_gap() {
        let nights = berlin("30 2 * * *", "2026-03-28T12:00:00Z", 2);
        assert_eq!(nights, ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
        let quarters = berlin("*/15 * * * *", "2026-03-29T00:40:00Z", 3);
        assert_eq!(quarters, ["2026-03-29T00:45Z", "2026-03-29T01:00Z", "2026-03-29T01:15Z"]);
    }

    #[test]
    fn a_time_that_the_clock_repeats_comes_once_and_an_interval_goes_on() {
        let nights = berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2);
        assert_eq!(nights, ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
        // From between the two: the first was it.
        assert_eq!(berlin("30 2 * * *", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30Z"]);
        let half_hours = berlin("*/30 * * * *", "2026-10-24T23:40:00Z", 6);
        let expected = ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"];
        assert_eq!(half_hours, expected.map(|time| format!("2026-10-25T{time}Z")));
    }

    #[test]
    fn an_interval_neither_drifts_nor_makes_up_for_what_it_missed() {
        let timing = read(&json!({ "every": "5m" })).unwrap();
        let first = at("2026-07-01T00:00:00.25Z");
        assert_eq!(timing.next_after(first), Some(at("2026-07-01T00:05:00.25Z")));
        let following = |now: &str| timing.following(first, at(now)).unwrap();
        assert_eq!(following("2026-07-01T00:00:03Z"), at("2026-07-01T00:05:00.25Z"));
        assert_eq!(following("2026-07-01T00:05:00.25Z"), at("2026-07-01T00:10:00.25Z"));
        assert_eq!(following("2026-07-02T12:34:56Z"), at("2026-07-02T12:35:00.25Z"));
        let monthly = read(&json!({ "cron": "0 0 1 * *" })).unwrap();
        let late = monthly.following(at("2026-01-01T00:00:00Z"), at("2026-05-20T00:00:00Z"));
        assert_eq!(late, Some(at("2026-06-01T00:00:00Z")));
    }

    proptest! {
        #[test]
        fn the_moment_that_follows_is_a_whole_number_of_intervals_away(
            every in 1_000..=1_000_000_u64, passed in 0..=10_000_000_000_i64,
        ) {
            let timing = Timing::Every(Duration::from_millis(every));
            let last = at("2026-07-01T00:00:00Z");
            let now = last + TimeDelta::microseconds(passed);
            let next = timing.following(last, now).unwrap();
            let every = TimeDelta::milliseconds(i64::try_from(every).unwrap());
            prop_assert!(next > now && next - now <= every);
            prop_assert_eq!((next - last).num_microseconds().unwrap() % every.num_microseconds().unwrap(), 0);
        }
    }
}

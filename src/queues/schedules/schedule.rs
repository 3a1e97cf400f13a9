//! A schedule of a queue: when it pushes, and what becomes of moments that come at the wrong time.

use crate::flow::cadence::{Cadence, Missed};
use crate::flow::timing::Timing;
use crate::http::idempotency::digest;
use crate::http::json_text::raw;
use crate::http::reader::Reader;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::time::Duration;

/// The shortest and the longest `spread`.
const SPREADS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

/// What a schedule says, but for its message.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// `every`, or `cron` with `time_zone`.
    pub timing: Timing,
    /// `enabled`: whether it fires at all.
    pub enabled: bool,
    /// `overlap`: whether it pushes although its message before has not ended.
    pub overlap: Overlap,
    /// `missed`: what becomes of moments at which no server was there.
    pub missed: Missed,
    /// `at_start`: whether it also fires when it begins: when it is new, when its moments change, or when it is switched on.
    pub at_start: bool,
    /// `spread`: each schedule has a time of its own, shorter than this, by which all its moments come later.
    pub spread: Option<Duration>,
}

/// What a moment does that finds the message before unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It pushes.
    Allow,
    /// It does not.
    Skip,
}

impl Schedule {
    /// Reads the members of a schedule; `None` if a rule is broken, which is noted.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let timing = Timing::read(reader, "time_zone");
        if reader.take("message").is_none() {
            reader.note("", "required", "must have the property \"message\"");
        }
        let enabled = reader.boolean("enabled").unwrap_or(true);
        let overlap = choice(reader, "overlap", &[("allow", Overlap::Allow), ("skip", Overlap::Skip)]);
        let missed = choice(reader, "missed", &[("skip", Missed::Skip), ("run_once", Missed::RunOnce)]);
        let at_start = reader.boolean("at_start").unwrap_or(false);
        let spread = reader.duration("spread", SPREADS.0..=SPREADS.1);
        Some(Self { timing: timing?, enabled, overlap, missed, at_start, spread })
    }

    /// Its moments, for the schedule `name` of a queue.
    pub fn cadence(&self, queue: &str, name: &str) -> Cadence {
        let spread = self.spread.unwrap_or_default().as_millis();
        let place =
            digest(queue, raw(name).get()).first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        // The same place whenever it is put anew, so that a schedule that stays what it was goes on as it did.
        let offset = u64::try_from(u128::from(place) % spread.max(1)).unwrap_or_default();
        Cadence { timing: self.timing.clone(), offset: Duration::from_millis(offset) }
    }

    /// When it fires first, if it is put `now`; never, while it is switched off.
    pub fn first(&self, queue: &str, name: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let cadence = self.cadence(queue, name);
        if !self.enabled {
            None
        } else if self.at_start {
            now.checked_add_signed(TimeDelta::from_std(cadence.offset).ok()?)
        } else {
            cadence.first_after(now)
        }
    }

    /// Whether it fires at the moments at which `former` did, and so goes on.
    pub fn goes_on(&self, former: &Self) -> bool {
        let when = |schedule: &Self| (schedule.timing.clone(), schedule.spread, schedule.enabled);
        when(self) == when(former)
    }
}

/// A member that must be one of these words; absent, and where another is noted, the first.
fn choice<T: Copy>(reader: &mut Reader<'_>, name: &'static str, words: &[(&str, T); 2]) -> T {
    let [(first, default), (second, _)] = words;
    let Some(value) = reader.take(name) else { return *default };
    let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
    if found.is_none() {
        let keyword = if matches!(value, Value::String(_)) { "enum" } else { "type" };
        reader.note(&format!("/{name}"), keyword, format!("must be \"{first}\" or \"{second}\""));
    }
    found.map_or(*default, |(_, choice)| *choice)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: &Value) -> Result<Schedule, Vec<(String, String)>> {
        let (mut schedule, mut violations) = (None, Vec::new());
        Reader::within(document, String::new(), &mut violations, |reader| schedule = Schedule::read(reader));
        let found: Vec<_> = violations.into_iter().map(|broken| (broken.pointer, broken.keyword)).collect();
        if found.is_empty() { Ok(schedule.unwrap()) } else { Err(found) }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let schedule = read(&json!({ "every": "15s", "message": null })).unwrap();
        let expected = Schedule {
            timing: Timing::Every(Duration::from_secs(15)),
            enabled: true,
            overlap: Overlap::Allow,
            missed: Missed::Skip,
            at_start: false,
            spread: None,
        };
        assert_eq!(schedule, expected);
    }

    #[test]
    fn members_that_are_not_built_are_refused_as_are_those_of_a_wrong_kind() {
        let document = json!({
            "cron": 5, "time_zone": 5, "enabled": 1, "overlap": "both", "missed": true, "at_start": "yes",
            "spread": "25h", "meta": {}, "expires": "period", "timezone": "UTC"
        });
        let mut found = read(&document).unwrap_err();
        found.sort();
        let expected = [
            ("", "required"),
            ("/at_start", "type"),
            ("/cron", "cron"),
            ("/enabled", "type"),
            ("/expires", "additionalProperties"),
            ("/meta", "additionalProperties"),
            ("/missed", "type"),
            ("/overlap", "enum"),
            ("/spread", "range"),
            ("/time_zone", "timezone"),
            ("/timezone", "additionalProperties"),
        ];
        let found: Vec<(&str, &str)> = found.iter().map(|(at, why)| (at.as_str(), why.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn schedules_are_spread_each_by_a_time_of_its_own_that_stays() {
        let schedule = read(&json!({ "cron": "0 * * * *", "message": 1, "spread": "10m" })).unwrap();
        let offset = |name: &str| schedule.cadence("q", name).offset;
        let offsets: Vec<Duration> = (0..100).map(|n| offset(&format!("s{n}"))).collect();
        assert!(offsets.iter().all(|offset| *offset < Duration::from_mins(10)));
        let early = offsets.iter().filter(|offset| **offset < Duration::from_mins(5)).count();
        assert!((25..=75).contains(&early), "{early} of 100 in the first half");
        assert_eq!(offset("s1"), schedule.clone().cadence("q", "s1").offset);
        assert_ne!(offset("s1"), schedule.cadence("other", "s1").offset);
    }

    #[test]
    fn one_that_fires_at_the_start_does_so_when_it_begins_and_goes_on_from_there() {
        let now = at("2026-07-01T00:00:30Z");
        let first = |document: Value| read(&document).unwrap().first("q", "s", now);
        let minutely = |more: Value| {
            let mut document = json!({ "cron": "* * * * *", "message": 1 });
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            document
        };
        assert_eq!(first(minutely(json!({}))), Some(at("2026-07-01T00:01:00Z")));
        assert_eq!(first(minutely(json!({ "at_start": true }))), Some(now));
        assert_eq!(first(minutely(json!({ "at_start": true, "enabled": false }))), None);
    }
}

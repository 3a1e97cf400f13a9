//! The time of a record's last change, as a storefront writes it: which of two is later, and where a run begins so that
//! what was committed late is read too. A time keeps its layout and its zone: `since` looks as the storefront's own do.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use std::cmp::Ordering;
use std::time::Duration;

/// The bookmark of a collection whose history is known, and which has no place yet to begin at.
pub(super) const NOWHERE: &str = "";

/// How far before its bookmark a run begins. What is read twice has not changed, so nothing is told twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// That much earlier, if the bookmark is a time; a number that is none is taken back by one.
    Time(Duration),
    /// That much less, if it is a number.
    Number(u32),
}

/// As times if both are, else as numbers, to the last digit, else as texts.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    if let (Some(one), Some(other)) = (Time::read(one), Time::read(other)) {
        return match (one.instant(), other.instant()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => one.local.cmp(&other.local),
        };
    }
    match (Number::read(one), Number::read(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

/// What is sent as `since` for a bookmark.
pub(super) fn since(bookmark: &str, overlap: Overlap) -> String {
    let earlier = match overlap {
        Overlap::Time(by) => Time::read(bookmark)
            .and_then(|time| time.earlier(by))
            .or_else(|| Number::read(bookmark)?.less(|whole| units(whole, by))),
        Overlap::Number(by) => Number::read(bookmark).and_then(|number| number.less(|_| i128::from(by))),
    };
    earlier.unwrap_or_else(|| bookmark.to_owned())
}

/// How much of a number a time is: a number as large as the seconds, milliseconds or microseconds since 1970 are today
/// is taken for them. Of another that only grows, one less is what `>=` would have meant.
fn units(whole: i128, by: Duration) -> i128 {
    let units = match whole {
        1_000_000_000..10_000_000_000 => by.as_secs().into(),
        1_000_000_000_000..10_000_000_000_000 => by.as_millis(),
        1_000_000_000_000_000..10_000_000_000_000_000 => by.as_micros(),
        _ => 1,
    };
    i128::try_from(units).unwrap_or(1).max(1)
}

/// A time, and the text that followed it: a zone, or nothing.
struct Time<'a> {
    local: NaiveDateTime,
    /// `%F` alone, or with a time behind `T` or a space.
    layout: &'static str,
    zone: &'a str,
}

impl<'a> Time<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let day = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
        let rest = &text[10..];
        if rest.is_empty() {
            return Some(Self { local: day.and_time(NaiveTime::MIN), layout: "%Y-%m-%d", zone: "" });
        }
        let layout = match rest.as_bytes()[0] {
            b'T' => "%Y-%m-%dT%H:%M:%S%.f",
            b' ' => "%Y-%m-%d %H:%M:%S%.f",
            _ => return None,
        };
        let (clock, rest) = (rest.get(1..9)?, rest.get(9..)?);
        let fraction = rest
            .strip_prefix('.')
            .map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
        let (fraction, zone) = rest.split_at(fraction);
        let clock = NaiveTime::parse_from_str(&format!("{clock}{fraction}"), "%H:%M:%S%.f").ok()?;
        let time = Self { local: day.and_time(clock), layout, zone };
        (zone.is_empty() || time.instant().is_some()).then_some(time)
    }

    /// The moment, if its zone is known.
    fn instant(&self) -> Option<DateTime<chrono::FixedOffset>> {
        let zone = match self.zone.trim_start() {
            "" => return None,
            "Z" | "z" | "UTC" | "GMT" => "+0000",
            zone => zone,
        };
        let text = format!("{} {zone}", self.local.format("%Y-%m-%d %H:%M:%S%.f"));
        DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f %z").ok()
    }

    fn earlier(&self, by: Duration) -> Option<String> {
        let local = self.local.checked_sub_signed(TimeDelta::from_std(by).ok()?)?;
        Some(format!("{}{}", local.format(self.layout), self.zone))
    }
}

/// A decimal number without an exponent, to the last digit: a whole number, and digits behind the point.
#[derive(PartialEq, Eq)]
struct Number<'a> {
    is_negative: bool,
    whole: i128,
    fraction: &'a str,
}

impl<'a> Number<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        Some(Self { is_negative, whole: whole.parse().ok()?, fraction: fraction.trim_end_matches('0') })
    }

    fn less(&self, by: impl FnOnce(i128) -> i128) -> Option<String> {
        if self.is_negative {
            return None;
        }
        let whole = self.whole - by(self.whole);
        if whole < 0 {
            return Some("0".to_owned());
        }
        let point = if self.fraction.is_empty() { "" } else { "." };
        Some(format!("{whole}{point}{}", self.fraction))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        // Digits behind the point, without zeros at the end, are in the order of their text.
        let size = |number: &Self| (number.whole, number.fraction.to_owned());
        match (self.is_negative, other.is_negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_a_little_before_its_bookmark_in_the_same_spelling() {
        let five = Overlap::Time(Duration::from_mins(5));
        for (bookmark, expected) in [
            ("2026-07-01T12:00:30.250+02:00", "2026-07-01T11:55:30.250+02:00"),
            ("2026-07-01T12:00:30Z", "2026-07-01T11:55:30Z"),
            ("2026-07-01T00:02:00", "2026-06-30T23:57:00"),
            ("2026-07-01 12:00:30 UTC", "2026-07-01 11:55:30 UTC"),
            ("2026-07-01 12:00:30 -0500", "2026-07-01 11:55:30 -0500"),
            ("2026-07-01", "2026-06-30"),
            ("1782900000", "1782899700"),
            ("1782900000.25", "1782899700.25"),
            ("1782900000000", "1782899700000"),
            ("1234", "1233"),
            ("0", "0"),
            ("-4", "-4"),
            ("v7", "v7"),
            ("2026-07-01 noon", "2026-07-01 noon"),
        ] {
            assert_eq!(since(bookmark, five), expected);
        }
        assert_eq!(since("9007199254740993", Overlap::Number(2)), "9007199254740991");
        assert_eq!(since("3", Overlap::Number(5)), "0");
        assert_eq!(since("2026-07-01", Overlap::Number(5)), "2026-07-01");
    }

    #[test]
    fn times_numbers_and_texts_are_compared_as_what_they_are() {
        for (less, more) in [
            ("9", "10"),
            ("a", "b"),
            ("9007199254740992", "9007199254740993"),
            ("0.1", "0.10000000000000000001"),
            ("-2", "-1"),
            ("-1", "0"),
            ("1.5", "1.50001"),
            ("2026-07-01T12:00:00+02:00", "2026-07-01T11:00:00Z"),
            ("2026-07-01 09:00:00", "2026-07-01 10:00:00"),
            ("2026-07-01", "2026-07-01 00:00:01"),
        ] {
            assert!(compare(less, more).is_lt() && compare(more, less).is_gt(), "{less} {more}");
        }
        assert!(compare("1.50", "1.5").is_eq());
        assert!(compare("2026-07-01T12:00:00Z", "2026-07-01 14:00:00 +0200").is_eq());
    }
}

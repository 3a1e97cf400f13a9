//! `Retry-After` of somebody else's answer: how long they want to be left alone.

use axum::http::{HeaderMap, header};
use chrono::{DateTime, NaiveDateTime, Utc};
use std::time::Duration;

/// It raises a delay up to this.
const LONGEST: Duration = Duration::from_hours(1);
/// The three forms of a date (RFC 9110, 5.6.7), without the day of the week: `06 Nov 1994 08:49:37 GMT`,
/// `06-Nov-94 08:49:37 GMT`, `Nov  6 08:49:37 1994`.
const DATES: [&str; 3] = ["%d %b %Y %H:%M:%S GMT", "%d-%b-%y %H:%M:%S GMT", "%b %e %H:%M:%S %Y"];

/// What the header asks for, in seconds or as a date; at most an hour. A date that is past asks for nothing.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = text.parse().ok().map(Duration::from_secs).or_else(|| (date(text)? - now).to_std().ok())?;
    Some(after.min(LONGEST))
}

fn date(text: &str) -> Option<DateTime<Utc>> {
    // Which day of the week it was is left unread: some get it wrong.
    let (_, date) = text.split_once(' ')?;
    DATES
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(date.trim_start(), form).ok())
        .map(|date| date.and_utc())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
        retry_after(&headers, "2026-11-06T08:49:07Z".parse().unwrap()).map(|after| after.as_secs())
    }

    #[test]
    fn seconds_and_every_form_of_a_date_are_read() {
        for text in [
            "30",
            " 30 ",
            "Fri, 06 Nov 2026 08:49:37 GMT",
            "Friday, 06-Nov-26 08:49:37 GMT",
            "Fri Nov  6 08:49:37 2026",
            "Mon, 06 Nov 2026 08:49:37 GMT",
        ] {
            assert_eq!(read(text), Some(30), "{text}");
        }
        assert_eq!(read("Thu Dec 10 08:49:37 2026"), Some(3600));
        assert_eq!(read("999999"), Some(3600));
    }

    #[test]
    fn what_is_past_or_no_date_asks_for_nothing() {
        for text in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Fri, 31 Feb 2027",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

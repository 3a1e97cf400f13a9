//! Durations as people write them, in addresses, headers and bodies: one spelling everywhere.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A duration: numbers with units, from milliseconds to years, such as `500ms`, `20s`, `1h30m` or `7days`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(
    pattern = r"^\s*([0-9]{1,9}\s*(millis|msec|ms)\s*|[0-9]{1,9}(\.[0-9]{1,3})?\s*(seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)\s*)+$",
    example = "20s"
)]
pub struct DurationText(pub String);

/// The duration that `text` says, in whole milliseconds; none when it says none.
pub fn read(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok().filter(|duration| duration.subsec_nanos() % 1_000_000 == 0)
}

/// As [`read`]; a bare number is one of seconds, as clients in the field send it.
pub fn read_or_seconds(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => read(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::published::Published;
    use serde_json::json;

    #[test]
    fn what_is_published_of_a_duration_is_what_is_read() {
        let published = Published::of::<DurationText>();
        for (text, milliseconds) in [
            ("500ms", 500),
            ("20s", 20_000),
            ("1h30m", 5_400_000),
            (" 1 h 30 min ", 5_400_000),
            ("1.5h", 5_400_000),
            ("7days", 604_800_000),
            ("0s", 0),
            ("1w 1d", 691_200_000),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert!(published.allows(&json!(text)), "{text}");
        }
        for text in
            ["", " ", "20", "s", "-1s", "1.s", "1,5h", "1us", "5 ns", "1.5ms", "soon", "1h-30m", "1e3s"]
        {
            assert_eq!(read(text), None, "{text}");
            assert!(!published.allows(&json!(text)), "{text}");
        }
    }

    #[test]
    fn clients_in_the_field_send_a_bare_number_of_seconds() {
        let second = Duration::from_secs(1);
        assert_eq!(read_or_seconds("9"), Some(9 * second));
        assert_eq!(read_or_seconds(" 9s"), Some(9 * second));
        assert_eq!(read_or_seconds("9.5"), None);
        assert_eq!(read_or_seconds("-9"), None);
    }
}

//! How long a server asks to be left alone.

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// `Retry-After` raises a delay up to this.
const LONGEST: Duration = Duration::from_hours(1);

/// `Retry-After`, in seconds or as a date.
pub(in crate::hub) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let date = || {
        let until = DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now;
        Some(Duration::from_millis(u64::try_from(until.num_milliseconds()).ok()?))
    };
    let after = text.parse().ok().map(Duration::from_secs).or_else(date)?;
    Some(after.min(LONGEST))
}

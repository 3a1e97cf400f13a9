//! When and in which order a pushed message runs: `delay`, `run_at` and `priority`, by query or header.

use super::options::Options;
use crate::error::{Error, Result};
use crate::http::duration::{self, DurationText};
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::time::Duration;

/// The longest that a message may wait for its time.
pub(super) const LONGEST_DELAY: Duration = Duration::from_hours(10 * 366 * 24);

/// When a message is due and how urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// How long it waits, in whole milliseconds; zero is at once.
    pub delay: Duration,
    /// -100 to 100; higher is claimed first.
    pub priority: i16,
}

/// The parameters, for the description of the API; [`When::read`] reads them, after the checks that come
/// before the body.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it only describes")]
pub struct WhenQuery {
    /// How long the message waits, such as `10s`; also the header `postrider-delay`.
    #[param(inline, value_type = Option<DurationText>)]
    delay: Option<String>,
    /// When it is due, as RFC 3339; also the header `postrider-run-at`.
    #[param(value_type = Option<DateTime<Utc>>, example = "2030-01-31T12:00:00Z")]
    run_at: Option<String>,
    /// -100 to 100, higher first; also the header `postrider-priority`.
    #[param(minimum = -100, maximum = 100, example = 0)]
    priority: Option<i16>,
}

impl When {
    /// Reads the query, or else the headers. `now` is the database's time, where it is known.
    ///
    /// # Errors
    /// 400 when one cannot be read or is out of range, or when `delay` and `run_at` come together.
    pub fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        now: Option<DateTime<Utc>>,
        options: &Options,
    ) -> Result<Self> {
        let find = |name: &str, header: &str| -> Result<Option<String>> {
            let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            let mut found = pairs.filter(|(key, _)| key == name).map(|(_, value)| Cow::into_owned(value));
            if let Some(value) = found.next() {
                return Ok(Some(value));
            }
            let Some(value) = headers.get(header) else { return Ok(None) };
            let text = value.to_str().map_err(|_| Error::BadRequest(format!("`{header}` is not ASCII")))?;
            Ok(Some(text.to_owned()))
        };
        let priority = match find("priority", "postrider-priority")? {
            None => options.priority,
            Some(text) => text.trim().parse().ok().filter(|p| (-100..=100).contains(p)).ok_or_else(|| {
                Error::BadRequest("`priority` must be a whole number from -100 to 100".to_owned())
            })?,
        };
        let delay = match (find("delay", "postrider-delay")?, find("run_at", "postrider-run-at")?) {
            (None, None) => Duration::ZERO,
            (Some(_), Some(_)) => {
                return Err(Error::BadRequest("give `delay` or `run_at`, not both".to_owned()));
            }
            (Some(delay), None) => duration::read(&delay).ok_or_else(|| {
                Error::BadRequest("`delay` must be a duration such as 10s or 1h30m".to_owned())
            })?,
            (None, Some(at)) => {
                let at = DateTime::parse_from_rfc3339(at.trim()).map_err(|_| {
                    Error::BadRequest("`run_at` must be RFC 3339, such as 2030-01-31T12:00:00Z".to_owned())
                })?;
                let unknown = || {
                    Error::Unavailable(
                        "the database's time is not known yet".to_owned(),
                        Duration::from_secs(1),
                    )
                };
                let now = now.ok_or_else(unknown)?;
                (at.with_timezone(&Utc) - now).to_std().unwrap_or_default()
            }
        };
        if delay > LONGEST_DELAY {
            return Err(Error::BadRequest("a message can wait for ten years at most".to_owned()));
        }
        // PostgreSQL counts microseconds; so that none is lost, whole milliseconds.
        let delay = Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { delay, priority })
    }

    /// The negated priority, as the engine orders.
    pub fn rank(&self) -> i16 {
        -self.priority
    }
}

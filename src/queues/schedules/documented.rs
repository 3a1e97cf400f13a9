//! The published shape of a schedule: what `/openapi.json` says of it, with each member's meaning, range and default.
//! [`super::schedule`] reads it by hand, to report every violation at once; the test below holds the two together.

use crate::http::duration::DurationText;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// The name of a schedule.
#[expect(dead_code, reason = "only described: no route reads it as a whole")]
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "nightly")]
pub struct ScheduleName(pub String);

/// A schedule of a queue: which message is pushed when. `message` is required, and `cron` or `every`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSchedule {
    /// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
    #[serde(default)]
    #[schema(max_length = 255, example = "0 3 * * *")]
    pub cron: String,
    /// The clocks that `cron` goes by. A time that they skip comes right after the gap, one that they repeat comes once.
    #[serde(default)]
    #[schema(default = "UTC", example = "Europe/Berlin")]
    pub time_zone: String,
    /// The interval, in the place of `cron`, counted from when the schedule begins: a duration from `1s` to 366 days.
    #[serde(default)]
    #[schema(value_type = DurationText)]
    pub every: String,
    /// The message: any JSON that the queue's schema allows, of 64 KiB at most.
    #[schema(example = json!({"report": "daily"}))]
    pub message: Value,
    /// Whether it fires.
    #[serde(default)]
    #[schema(default = true)]
    pub enabled: bool,
    /// Whether a moment pushes although the message before has not ended.
    #[serde(default)]
    #[schema(default = "allow")]
    pub overlap: ScheduleOverlap,
    /// What becomes of moments that nobody saw to for a minute, since no server was there.
    #[serde(default)]
    #[schema(default = "skip")]
    pub missed: ScheduleMissed,
    /// Whether it also fires when it begins: when it is new, when its moments change, or when it is switched on.
    #[serde(default)]
    #[schema(default = false)]
    pub at_start: bool,
    /// Each schedule has a time of its own, shorter than this, by which all its moments come later: a duration from `1s`
    /// to `24h`.
    #[serde(default)]
    #[schema(value_type = DurationText)]
    pub spread: String,
    /// In the answer to a GET only: how the schedule does. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: ScheduleState,
}

/// How a schedule does.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScheduleState {
    /// When it fires next; null while it is switched off.
    pub next_run: Option<DateTime<Utc>>,
    /// When it last pushed a message, by itself or by hand.
    pub last_run: Option<DateTime<Utc>>,
    /// That message.
    pub last_message: Option<Uuid>,
}

/// What a moment does that finds the message before unfinished: it pushes (`allow`), or it does not (`skip`).
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleOverlap {
    /// It pushes.
    #[default]
    Allow,
    /// It does not.
    Skip,
}

/// What becomes of moments that were missed: nothing (`skip`), or one message for all of them (`run_once`).
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleMissed {
    /// Nothing.
    #[default]
    Skip,
    /// One message for all of them.
    RunOnce,
}

/// All schedules of a queue, by their names: at most 1,000. What is there and not among them goes.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"schedules": {"nightly": {"cron": "0 3 * * *", "message": {"report": "daily"}}}}))]
pub struct ScheduleSet {
    /// The set.
    pub schedules: HashMap<String, QueueSchedule>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::http::json_text::raw;
    use crate::http::published::Published;
    use crate::queues::schedules::entry;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_published_schema_of_a_schedule_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 60),
        ) {
            // It has one timing.
            let between = ["required", "oneOf", "dependentRequired"];
            let beyond = ["cron", "timezone", "range"];
            let read = |document: &Value| match entry::read("s", &raw(document)) {
                Ok(_) => Ok(()),
                Err(Error::Invalid(_, found)) => Err(found.into_iter().map(|one| one.keyword).collect()),
                Err(other) => Err(vec![other.to_string()]),
            };
            Published::of::<QueueSchedule>().agrees(&picks, &between, &beyond, read)?;
        }
    }
}

//! The published shape of a queue's `options.retry`; [`super::Retry`] reads it by hand.

use crate::http::duration::DurationText;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// When a message is tried again whose attempt failed, and for how long. Absent, pauses grow exponentially from one
/// second to five minutes, each left to chance as a whole.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueRetry {
    /// How the pauses grow with the number n of the attempt that failed.
    #[serde(default)]
    #[schema(default = "exponential")]
    pub kind: RetryKind,
    /// The first pause: a duration from `1ms` to `24h`.
    #[serde(default)]
    #[schema(value_type = DurationText, default = "1s")]
    pub base: String,
    /// The longest pause: a duration from `base` to `7days`. Absent, `5m` where it grows exponentially, else `24h`.
    #[serde(default)]
    #[schema(value_type = DurationText)]
    pub cap: String,
    /// The power with which polynomial pauses grow.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10, default = 2)]
    pub power: u8,
    /// The pauses themselves, in the place of a curve: durations from `1ms` to `30days`. The last holds from then on.
    #[serde(default)]
    #[schema(value_type = Vec<DurationText>, min_items = 1, max_items = 100)]
    pub after: Vec<String>,
    /// How much of a pause is left to chance, so that messages that failed together do not come back together: it lies
    /// between the whole and what this leaves of it. Absent, 1 where it grows exponentially, else 0.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: f64,
    /// How long after the start of its first attempt a message may be tried again: a duration from `1ms` to a year.
    /// Absent, for ever; where the handler put it off, for 30 days.
    #[serde(default)]
    #[schema(value_type = DurationText)]
    pub max_age: String,
    /// What holds for errors of one name instead, at most 100: the member `name` of an error that is an object, such as
    /// `TimeoutError`, `HttpError` or `WorkerLost`.
    #[serde(default)]
    pub by: HashMap<String, RetryByName>,
}

/// What holds for errors of one name.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum RetryByName {
    /// The message is not tried again.
    Word(RetryFinal),
    /// What it says holds, and for what it does not say, what holds for the others.
    Rule(RetryRule),
}

/// The message is not tried again.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryFinal {
    /// Its error is final.
    Final,
}

/// When a message is tried again whose error has this name.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRule {
    /// The most attempts, of every kind together.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_attempts: u16,
    /// As in `retry`.
    #[serde(default)]
    pub kind: RetryKind,
    /// As in `retry`.
    #[serde(default)]
    #[schema(value_type = DurationText, example = "30s")]
    pub base: String,
    /// As in `retry`.
    #[serde(default)]
    #[schema(value_type = DurationText, example = "1h")]
    pub cap: String,
    /// As in `retry`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10)]
    pub power: u8,
    /// As in `retry`.
    #[serde(default)]
    #[schema(value_type = Vec<DurationText>, min_items = 1, max_items = 100)]
    pub after: Vec<String>,
    /// As in `retry`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: f64,
    /// As in `retry`.
    #[serde(default)]
    #[schema(value_type = DurationText, example = "2d")]
    pub max_age: String,
}

/// How pauses grow: `base · 2^(n-1)` (`exponential`), `base · n` (`linear`), `base · n^power` (`polynomial`), or not at all
/// (`fixed`).
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryKind {
    /// They double.
    #[default]
    Exponential,
    /// They grow by `base`.
    Linear,
    /// They grow with a power of n.
    Polynomial,
    /// They are all the same.
    Fixed,
}

//! How long things took: a histogram.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The percentiles that are shown.
pub(super) const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)];

/// The longest time that is told apart from longer ones, in microseconds: a minute.
const LONGEST: u64 = 60_000_000;

/// Durations to three digits.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("bounds and precision that a histogram may have"))
    }

    pub(super) fn note(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds, what so many percent do not exceed.
    pub(super) fn at(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }
}

//! How long an item waits before its next attempt: exponential backoff with full jitter.
//!
//! The crate `backoff` is unmaintained (RUSTSEC-2025-0012); it is used in this one file for one pure
//! function. Its interval is taken without its own jitter, which exceeds the cap, and its limit on the
//! elapsed time, 15 minutes unless told otherwise, is turned off.

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;
use std::time::Duration;

/// The highest delay before the attempt after `attempt` (counted from 1): `base · 2^(attempt-1)`, never
/// more than `cap`.
pub fn ceiling_after(attempt: u32, base: Duration, cap: Duration) -> Duration {
    let mut intervals = ExponentialBackoffBuilder::new()
        .with_initial_interval(base.min(cap))
        .with_max_interval(cap)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    // After 63 doublings every base has met every cap.
    let mut ceiling = base.min(cap);
    for _ in 0..attempt.clamp(1, 64) {
        ceiling = intervals.next_backoff().unwrap_or(cap);
    }
    ceiling.min(cap)
}

/// The delay before the attempt after `attempt`: somewhere between nothing and [`ceiling_after`], so that
/// items that failed together do not come back together. Whole milliseconds, as PostgreSQL's intervals
/// refuse nanoseconds in sqlx.
pub fn delay_after(attempt: u32, base: Duration, cap: Duration) -> Duration {
    let ceiling = u64::try_from(ceiling_after(attempt, base, cap).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rand::random_range(0..=ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(10));
        let seconds: Vec<u64> = (1..=6).map(|attempt| ceiling_after(attempt, base, cap).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
    }

    proptest! {
        #[test]
        fn a_delay_never_exceeds_its_ceiling_nor_the_cap(attempt in 0u32..1000, base in 1u64..100_000, cap in 1u64..10_000_000) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let delay = delay_after(attempt, base, cap);
            prop_assert!(delay <= ceiling_after(attempt, base, cap));
            prop_assert!(delay <= cap);
            prop_assert_eq!(delay.subsec_nanos() % 1_000_000, 0);
        }
    }
}

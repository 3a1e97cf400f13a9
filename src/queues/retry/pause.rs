//! The pause before another attempt.

use crate::worker::delay::ceiling_after;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the pauses of one message grow, and how far each is left to chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The longest that each may be.
    pub curve: Curve,
    /// In thousandths of it: a pause lies between the whole and what this leaves of it, so that messages that failed
    /// together do not come back together.
    pub jitter: u16,
}

/// How pauses grow with the number of the attempt that failed, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// `base · 2^(n-1)`, at most `cap`.
    Exponential { base: Duration, cap: Duration },
    /// `base · n`, at most `cap`.
    Linear { base: Duration, cap: Duration },
    /// `base · n^power`, at most `cap`.
    Polynomial { base: Duration, cap: Duration, power: u8 },
    /// Always the same.
    Fixed { base: Duration },
    /// One after the other; the last of them from then on. Never empty.
    Listed { pauses: Vec<Duration> },
}

impl Pause {
    /// The pause after attempt `attempt`, counted from 1: whole milliseconds, as PostgreSQL's intervals refuse
    /// nanoseconds in sqlx.
    pub fn after(&self, attempt: u16) -> Duration {
        let longest = u64::try_from(self.curve.after(attempt).as_millis()).unwrap_or(u64::MAX);
        let shortest = longest
            - longest / 1000 * u64::from(self.jitter)
            - longest % 1000 * u64::from(self.jitter) / 1000;
        Duration::from_millis(rand::random_range(shortest..=longest))
    }
}

impl Curve {
    /// The longest pause after attempt `attempt`, counted from 1.
    pub fn after(&self, attempt: u16) -> Duration {
        let n = u32::from(attempt.max(1));
        match self {
            Self::Exponential { base, cap } => ceiling_after(n, *base, *cap),
            Self::Linear { base, cap } => base.saturating_mul(n).min(*cap),
            Self::Polynomial { base, cap, power } => {
                base.saturating_mul(n.saturating_pow(u32::from(*power))).min(*cap)
            }
            Self::Fixed { base } => *base,
            Self::Listed { pauses } => {
                pauses.get(usize::from(attempt.max(1)) - 1).or(pauses.last()).copied().unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(curve: &Curve, attempts: u16) -> Vec<u64> {
        (1..=attempts).map(|attempt| curve.after(attempt).as_secs()).collect()
    }

    #[test]
    fn each_curve_grows_by_its_rule_up_to_its_cap() {
        let (base, cap) = (Duration::from_secs(2), Duration::from_mins(1));
        assert_eq!(seconds(&Curve::Exponential { base, cap }, 7), [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(&Curve::Linear { base, cap }, 4), [2, 4, 6, 8]);
        assert_eq!(Curve::Linear { base, cap }.after(31), cap);
        assert_eq!(seconds(&Curve::Polynomial { base, cap, power: 3 }, 5), [2, 16, 54, 60, 60]);
        assert_eq!(Curve::Polynomial { base, cap, power: 10 }.after(u16::MAX), cap);
        assert_eq!(seconds(&Curve::Fixed { base }, 3), [2, 2, 2]);
        let pauses = [5, 300, 1800].map(Duration::from_secs).to_vec();
        assert_eq!(seconds(&Curve::Listed { pauses }, 5), [5, 300, 1800, 1800, 1800]);
    }

    proptest! {
        #[test]
        fn a_pause_lies_within_its_jitter_in_whole_milliseconds(
            base in 1..=86_400_000_u64, attempt in 0..=u16::MAX, jitter in 0..=1000_u16,
        ) {
            let curve = Curve::Linear { base: Duration::from_millis(base), cap: Duration::from_hours(7 * 24) };
            let longest = curve.after(attempt);
            let pause = Pause { curve, jitter }.after(attempt);
            prop_assert!(pause <= longest);
            let left = longest.mul_f64(1.0 - f64::from(jitter) / 1000.0);
            prop_assert!(pause + Duration::from_millis(1) >= left, "{pause:?} of {longest:?}, {jitter}");
            prop_assert_eq!(pause.subsec_nanos() % 1_000_000, 0);
        }
    }
}

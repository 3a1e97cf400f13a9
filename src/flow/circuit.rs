//! A circuit breaker, of a lane whose items are sent to one server, or of a part of it, such as a service of that server:
//! closed, open for a while, half-open for one item at a time.
//!
//! ```text
//!            n failures in a row              the cooldown is over
//!   closed ──────────────────────▶ open ───────────────────────────▶ half-open ──┐ a failure
//!     ▲ └── a success: counts anew   ▲                                   │       │
//!     │                              └───────────────────────────────────┼───────┘
//!     └──────────────────────────────────────────────────────────────────┘ a success
//! ```
//! Whose circuit a failure counts for, its cause says: that of the lane where no conversation came about, else that of the
//! part, so that a service which answers 500 does not hold up its neighbours.

use crate::http::outbound::Cause;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// When to leave a server alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// It opens after so many failed attempts in a row.
    pub failures: u32,
    /// For how long it stays open before one item tries again.
    pub cooldown: Duration,
}

/// A circuit. It is half-open once `open_until` lies in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuit {
    /// Failed attempts since the last that was not.
    pub failures: u32,
    /// Until when nothing is sent; `None` when it is closed.
    pub open_until: Option<DateTime<Utc>>,
}

impl Circuit {
    /// How many items may run at once, of `concurrency`, half as many for each failure in a row; `None` while it
    /// is open.
    pub fn room(self, concurrency: usize, breaker: Breaker, now: DateTime<Utc>) -> Option<usize> {
        match self.open_until {
            None => Some(concurrency.checked_shr(self.failures).unwrap_or(0).max(1)),
            Some(until) if is_open(until, breaker, now) => None,
            Some(_) => Some(concurrency.min(1)),
        }
    }

    /// The circuit after an attempt that failed or did not.
    #[must_use]
    pub fn after(self, failed: bool, breaker: Breaker, now: DateTime<Utc>) -> Self {
        if !failed {
            return Self::default();
        }
        let failures = self.failures.saturating_add(1);
        let open_until = match self.open_until {
            // What began before it opened says nothing new.
            Some(until) if is_open(until, breaker, now) => Some(until),
            Some(_) => Some(later(now, breaker)),
            None => (failures >= breaker.failures).then(|| later(now, breaker)),
        };
        Self { failures, open_until }
    }

    /// Whether nothing is to be sent yet.
    pub fn is_open(self, breaker: Breaker, now: DateTime<Utc>) -> bool {
        self.open_until.is_some_and(|until| is_open(until, breaker, now))
    }
}

/// Whether a circuit that was opened until then is still open. One that is to be open for longer than a cooldown was
/// opened before the database's clock was set back.
fn is_open(until: DateTime<Utc>, breaker: Breaker, now: DateTime<Utc>) -> bool {
    now < until && until <= later(now + TimeDelta::seconds(1), breaker)
}

fn later(now: DateTime<Utc>, breaker: Breaker) -> DateTime<Utc> {
    let cooldown = TimeDelta::from_std(breaker.cooldown).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(cooldown).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// What an attempt says of the part that was asked, and of the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The part did its work.
    Well,
    /// It answered badly, or not in time: the server is there, and nothing is said of its other parts.
    Refused,
    /// No conversation with the server came about, whichever part was meant.
    Unreachable,
}

impl Sign {
    /// What a failure says that had this cause.
    pub fn of(cause: Option<Cause>) -> Self {
        match cause {
            Some(
                Cause::Dns
                | Cause::Refused
                | Cause::ConnectTimeout
                | Cause::Reset
                | Cause::TlsUnknownCa
                | Cause::TlsName
                | Cause::TlsExpired
                | Cause::TlsClientCertificate
                | Cause::TlsVersion
                | Cause::NotHttp
                | Cause::Http2Only
                | Cause::AddressNotAllowed,
            ) => Self::Unreachable,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BREAKER: Breaker = Breaker { failures: 3, cooldown: Duration::from_secs(30) };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_lets_one_try_after_the_cooldown() {
        let mut circuit = Circuit::default();
        for (failed, room) in [(true, 4), (true, 2), (false, 8), (true, 4), (true, 2)] {
            circuit = circuit.after(failed, BREAKER, at(0));
            assert_eq!(circuit.room(8, BREAKER, at(0)), Some(room));
        }
        assert_eq!(Circuit { failures: u32::MAX, open_until: None }.room(8, BREAKER, at(0)), Some(1));
        circuit = circuit.after(true, BREAKER, at(0));
        assert_eq!(circuit, Circuit { failures: 3, open_until: Some(at(30)) });
        assert_eq!((circuit.room(8, BREAKER, at(29)), circuit.room(8, BREAKER, at(30))), (None, Some(1)));
        // What began before changes nothing.
        assert_eq!(circuit.after(true, BREAKER, at(20)).open_until, Some(at(30)));
        let again = circuit.after(true, BREAKER, at(40));
        assert_eq!((again.room(8, BREAKER, at(69)), again.room(8, BREAKER, at(70))), (None, Some(1)));
        assert_eq!(again.after(false, BREAKER, at(80)), Circuit::default());
    }

    #[test]
    fn one_that_was_opened_before_the_clock_was_set_back_does_not_stay_open() {
        let circuit = Circuit { failures: 3, open_until: Some(at(3600)) };
        assert_eq!(circuit.room(8, BREAKER, at(0)), Some(1));
        assert_eq!(circuit.after(true, BREAKER, at(0)).open_until, Some(at(30)));
        assert_eq!(Circuit { open_until: Some(at(31)), ..circuit }.room(8, BREAKER, at(0)), None);
    }

    proptest! {
        #[test]
        fn it_is_open_only_after_enough_failures_and_never_longer_than_the_cooldown(
            steps in proptest::collection::vec((any::<bool>(), 0i64..60), 0..100)
        ) {
            let (mut circuit, mut now, mut row) = (Circuit::default(), 0, 0);
            for (failed, pause) in steps {
                now += pause;
                circuit = circuit.after(failed, BREAKER, at(now));
                row = if failed { row + 1 } else { 0 };
                prop_assert_eq!(circuit.failures, row);
                prop_assert_eq!(circuit.open_until.is_some(), row >= BREAKER.failures);
                prop_assert!(circuit.open_until.is_none_or(|until| until <= at(now + 30)));
                prop_assert!(circuit.room(8, BREAKER, at(now + 30)).is_some());
            }
        }
    }
}

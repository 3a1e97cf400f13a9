//! The circuit breaker of an endpoint: closed, open for a while, half-open for one delivery at a time.
//!
//! ```text
//!            n failures in a row              the cooldown is over
//!   closed ──────────────────────▶ open ───────────────────────────▶ half-open ──┐ a failure
//!     ▲ └── a success: counts anew   ▲                                   │       │
//!     │                              └───────────────────────────────────┼───────┘
//!     └──────────────────────────────────────────────────────────────────┘ a success
//! ```
//! Each process counts by itself. What opens or closes is written with the end of the attempt that did it, and
//! other processes adopt it when they next claim a delivery of the endpoint. It is no change of a definition.

use crate::hub::definitions::endpoint::{Breaker, Endpoint};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use std::collections::HashMap;

/// The circuit of one endpoint. It is half-open once `open_until` lies in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuit {
    /// Failed attempts since the last that was not.
    pub failures: u32,
    /// Until when nothing is sent; `None` when it is closed.
    pub open_until: Option<DateTime<Utc>>,
}

impl Circuit {
    /// How many deliveries may run at once, of `concurrency`, half as many for each failure in a row; `None` while it
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

/// A circuit as it is written in the row of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// The circuit.
    pub circuit: Circuit,
    /// Whether the endpoint has answered 410 Gone, and nothing since.
    pub is_gone: bool,
    /// How often any of it has changed: what is written later has a larger number.
    pub changes: i64,
}

impl Written {
    fn of(endpoint: &Endpoint) -> Self {
        let Endpoint { failures, open_until, is_gone, circuit, .. } = *endpoint;
        Self { circuit: Circuit { failures, open_until }, is_gone, changes: circuit }
    }
}

/// What an attempt changed in the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Its circuit, when it opened or closed.
    pub circuit: Option<Circuit>,
    /// Whether it is gone for good, when that is news.
    pub gone: Option<bool>,
}

/// The circuits of all endpoints, as this process knows them.
#[derive(Debug, Default)]
pub struct Circuits(Mutex<HashMap<i32, Written>>);

impl Circuits {
    /// The circuit of an endpoint.
    pub fn of(&self, endpoint: &Endpoint) -> Circuit {
        adopted(&mut self.0.lock(), endpoint.id, Written::of(endpoint)).circuit
    }

    /// How often the circuits of these endpoints had changed in all, when what is known of them was written.
    pub fn changes<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint>) -> i64 {
        let mut circuits = self.0.lock();
        endpoints.map(|endpoint| adopted(&mut circuits, endpoint.id, Written::of(endpoint)).changes).sum()
    }

    /// Learns what is written of an endpoint's circuit.
    pub fn adopt(&self, id: i32, written: Written) {
        adopted(&mut self.0.lock(), id, written);
    }

    /// Counts an attempt; returns what is to be written: its circuit if it opened or closed, and whether the endpoint is
    /// gone if something else is written.
    pub fn record(&self, endpoint: &Endpoint, failed: bool, gone: bool, now: DateTime<Utc>) -> Change {
        let mut circuits = self.0.lock();
        let known = adopted(&mut circuits, endpoint.id, Written::of(endpoint));
        let before = known.circuit;
        known.circuit = before.after(failed, endpoint.definition.breaker, now);
        Change {
            circuit: (known.circuit.open_until != before.open_until).then_some(known.circuit),
            gone: (gone || !failed).then_some(gone).filter(|gone| *gone != known.is_gone),
        }
    }

    /// Forgets the endpoints that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(i32) -> bool) {
        self.0.lock().retain(|id, _| keep(*id));
    }
}

/// What is known of an endpoint's circuit, or what is written where that is newer.
fn adopted(circuits: &mut HashMap<i32, Written>, id: i32, written: Written) -> &mut Written {
    let known = circuits.entry(id).or_insert(written);
    if known.changes < written.changes {
        *known = written;
    }
    known
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

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

    fn endpoint(circuit: i64, failures: u32, open_until: Option<DateTime<Utc>>) -> Endpoint {
        Endpoint {
            id: 7,
            store_id: 1,
            store: "s".to_owned(),
            name: "e".to_owned(),
            definition: crate::hub::definitions::endpoint::Definition {
                url: "https://e.example".parse().unwrap(),
                concurrency: 8,
                rate: None,
                timeout: Duration::from_mins(3),
                breaker: BREAKER,
                enabled: true,
            },
            token: None,
            signing_secrets: Vec::new(),
            version: 1,
            failures,
            open_until,
            is_gone: false,
            circuit,
        }
    }

    #[test]
    fn only_what_opens_or_closes_it_is_told() {
        let (circuits, endpoint) = (Circuits::default(), endpoint(1, 1, None));
        let record = |failed, now| circuits.record(&endpoint, failed, false, now).circuit;
        assert_eq!(record(true, at(0)), None);
        assert_eq!(record(true, at(0)).unwrap().open_until, Some(at(30)));
        assert_eq!(record(true, at(1)), None);
        assert_eq!(record(false, at(31)), Some(Circuit::default()));
        assert_eq!(record(false, at(32)), None);
    }

    #[test]
    fn that_it_is_gone_is_told_until_that_is_written_and_so_is_that_it_is_back() {
        let (circuits, endpoint) = (Circuits::default(), endpoint(1, 0, None));
        let record = |failed, gone| circuits.record(&endpoint, failed, gone, at(0)).gone;
        assert_eq!((record(true, false), record(false, false)), (None, None));
        assert_eq!((record(true, true), record(true, true)), (Some(true), Some(true)));
        circuits.adopt(endpoint.id, Written { is_gone: true, changes: 2, ..Written::default() });
        assert_eq!((record(true, true), record(false, false)), (None, Some(false)));
        assert_eq!(circuits.changes([&endpoint].into_iter()), 2);
    }

    #[test]
    fn a_newer_row_is_adopted_and_an_older_one_is_not() {
        let circuits = Circuits::default();
        assert_eq!(circuits.of(&endpoint(2, 0, None)), Circuit::default());
        let opened = endpoint(3, 3, Some(at(30)));
        assert_eq!(circuits.of(&opened).open_until, Some(at(30)));
        assert_eq!(circuits.of(&endpoint(2, 0, None)).open_until, Some(at(30)));
        assert_eq!(circuits.record(&opened, false, false, at(31)).circuit, Some(Circuit::default()));
        assert_eq!(circuits.of(&opened), Circuit::default());
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

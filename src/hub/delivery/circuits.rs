//! The circuits of all endpoints and of their services, as this process knows them.
//!
//! Each process counts failures by itself. What opens or closes is written with the end of the attempt that did it, and
//! other processes adopt it when they next claim a delivery of the endpoint. It is no change of a definition.

use super::circuit::{Circuit, Sign};
use crate::hub::definitions::endpoint::Endpoint;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use std::collections::HashMap;

/// What is written of an endpoint's circuits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Its own circuit.
    pub circuit: Circuit,
    /// Whether the endpoint has answered 410 Gone, and nothing since.
    pub is_gone: bool,
    /// How often any of it has changed: what is written later has a larger number.
    pub changes: i64,
    /// The circuits of its services that are not closed.
    pub services: Vec<(String, Service)>,
}

/// The circuit of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// The circuit.
    pub circuit: Circuit,
    /// Since when a delivery tries whether the service is back, when one does.
    pub probed_at: Option<DateTime<Utc>>,
}

/// Whether a delivery may go to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// One at a time may, and one may be under way since this moment.
    Ajar(Option<DateTime<Utc>>),
    /// Not before this moment.
    Shut(DateTime<Utc>),
}

/// What an attempt changed in the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Its circuit, when it opened or closed.
    pub circuit: Option<Circuit>,
    /// Whether it is gone for good, when that is news.
    pub gone: Option<bool>,
    /// The service and its circuit, when that opened or closed.
    pub service: Option<(String, Circuit)>,
    /// Whether it is not to be told: the message was of the hub itself.
    pub quiet: bool,
}

impl Change {
    /// Whether there is nothing to be written.
    pub fn is_none(&self) -> bool {
        self.circuit.is_none() && self.gone.is_none() && self.service.is_none()
    }
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct Known {
    circuit: Circuit,
    is_gone: bool,
    changes: i64,
    /// Whether there may be circuits of services that were not read: the definition knows only that they changed.
    partial: bool,
    services: HashMap<String, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    state: Service,
    /// How many deliveries were told to wait since it last opened.
    waiting: usize,
}

impl Known {
    /// Learns what the definition of the endpoint says, where that is newer.
    fn learn(&mut self, endpoint: &Endpoint) {
        if self.changes < endpoint.circuit {
            self.circuit = Circuit { failures: endpoint.failures, open_until: endpoint.open_until };
            self.is_gone = endpoint.is_gone;
            self.changes = endpoint.circuit;
            self.partial = true;
        }
    }

    fn adopt(&mut self, written: Written) {
        if self.changes > written.changes || (self.changes == written.changes && !self.partial) {
            return;
        }
        let Written { circuit, is_gone, changes, services } = written;
        let mut former = std::mem::take(&mut self.services);
        // Those that only count failures nobody writes down.
        let counting = |counted: &Counted| counted.state.circuit.open_until.is_none();
        let opened = services.into_iter().map(|(name, state)| {
            let counted = former.remove(&name).filter(|counted| counted.state.circuit == state.circuit);
            (name, Counted { state, waiting: counted.map_or(0, |counted| counted.waiting) })
        });
        self.services = opened.collect();
        self.services.extend(former.into_iter().filter(|(_, counted)| counting(counted)));
        (self.circuit, self.is_gone, self.changes, self.partial) = (circuit, is_gone, changes, false);
    }

    /// Counts what an attempt says of a service; returns it and its circuit when that opened or closed.
    fn count(
        &mut self,
        service: &str,
        sign: Sign,
        endpoint: &Endpoint,
        now: DateTime<Utc>,
    ) -> Option<(String, Circuit)> {
        match sign {
            Sign::Unreachable => None,
            Sign::Well if self.services.is_empty() => None,
            Sign::Well => {
                let (name, former) = self.services.remove_entry(service)?;
                former.state.circuit.open_until.map(|_| (name, Circuit::default()))
            }
            Sign::Refused => {
                let counted = self.services.entry(service.to_owned()).or_default();
                let before = counted.state.circuit;
                counted.state.circuit = before.after(true, endpoint.definition.breaker, now);
                if counted.state.circuit.open_until == before.open_until {
                    return None;
                }
                (counted.state.probed_at, counted.waiting) = (None, 0);
                Some((service.to_owned(), counted.state.circuit))
            }
        }
    }
}

/// The circuits of all endpoints.
#[derive(Debug, Default)]
pub struct Circuits(Mutex<HashMap<i32, Known>>);

impl Circuits {
    fn with<T>(&self, endpoint: &Endpoint, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.0.lock();
        let known = all.entry(endpoint.id).or_default();
        known.learn(endpoint);
        work(known)
    }

    /// The circuit of an endpoint.
    pub fn of(&self, endpoint: &Endpoint) -> Circuit {
        self.with(endpoint, |known| known.circuit)
    }

    /// Whether a delivery may go to this service of an endpoint.
    pub fn gate(&self, endpoint: &Endpoint, service: &str, now: DateTime<Utc>) -> Gate {
        self.with(endpoint, |known| {
            let state = known.services.get(service).map(|counted| counted.state);
            match state.and_then(|state| Some((state, state.circuit.open_until?))) {
                None => Gate::Open,
                Some((state, _)) if !state.circuit.is_open(endpoint.definition.breaker, now) => {
                    Gate::Ajar(state.probed_at)
                }
                Some((_, until)) => Gate::Shut(until),
            }
        })
    }

    /// Places for `count` more deliveries among those that wait for a service; returns the first of them.
    pub fn queue(&self, endpoint: &Endpoint, service: &str, count: usize) -> usize {
        self.with(endpoint, |known| {
            let Some(counted) = known.services.get_mut(service) else { return 0 };
            let first = counted.waiting;
            counted.waiting = first.saturating_add(count);
            first
        })
    }

    /// How often the circuit of an endpoint has changed, as far as is known.
    pub fn changes_of(&self, endpoint: &Endpoint) -> i64 {
        self.with(endpoint, |known| known.changes)
    }

    /// How often the circuits of these endpoints had changed in all, when what is known of them was written. Less than
    /// that where not all of it is known.
    pub fn changes<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint>) -> i64 {
        endpoints
            .map(|endpoint| self.with(endpoint, |known| if known.partial { -1 } else { known.changes }))
            .sum()
    }

    /// Learns what is written of an endpoint's circuits.
    pub fn adopt(&self, id: i32, written: Written) {
        self.0.lock().entry(id).or_default().adopt(written);
    }

    /// Counts an attempt; returns what is to be written: the circuits that opened or closed, and whether the endpoint is
    /// gone if something else is written.
    pub fn record(
        &self,
        endpoint: &Endpoint,
        service: &str,
        sign: Sign,
        gone: bool,
        now: DateTime<Utc>,
    ) -> Change {
        self.with(endpoint, |known| {
            let before = known.circuit;
            known.circuit = before.after(sign == Sign::Unreachable, endpoint.definition.breaker, now);
            let told = gone || sign == Sign::Well;
            Change {
                circuit: (known.circuit.open_until != before.open_until).then_some(known.circuit),
                gone: told.then_some(gone).filter(|gone| *gone != known.is_gone),
                service: known.count(service, sign, endpoint, now),
                quiet: false,
            }
        })
    }

    /// Forgets the endpoints that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(i32) -> bool) {
        self.0.lock().retain(|id, _| keep(*id));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::hub::definitions::endpoint::Breaker;
    use std::time::Duration;

    const BREAKER: Breaker = Breaker { failures: 3, cooldown: Duration::from_secs(30) };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn sign(failed: bool) -> Sign {
        if failed { Sign::Unreachable } else { Sign::Well }
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
        let record = |failed, now| circuits.record(&endpoint, "s", sign(failed), false, now).circuit;
        assert_eq!(record(true, at(0)), None);
        assert_eq!(record(true, at(0)).unwrap().open_until, Some(at(30)));
        assert_eq!(record(true, at(1)), None);
        assert_eq!(record(false, at(31)), Some(Circuit::default()));
        assert_eq!(record(false, at(32)), None);
    }

    #[test]
    fn that_it_is_gone_is_told_until_that_is_written_and_so_is_that_it_is_back() {
        let (circuits, endpoint) = (Circuits::default(), endpoint(1, 0, None));
        let record = |failed, gone| circuits.record(&endpoint, "s", sign(failed), gone, at(0)).gone;
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
        assert_eq!(
            circuits.record(&opened, "s", Sign::Well, false, at(31)).circuit,
            Some(Circuit::default())
        );
        assert_eq!(circuits.of(&opened), Circuit::default());
    }

    fn refuse(circuits: &Circuits, endpoint: &Endpoint, now: i64) -> Option<(String, Circuit)> {
        circuits.record(endpoint, "drop_ship", Sign::Refused, false, at(now)).service
    }

    #[test]
    fn a_bad_answer_counts_for_its_service_alone_and_shows_that_the_endpoint_is_there() {
        let (circuits, endpoint) = (Circuits::default(), endpoint(0, 0, None));
        for _ in 0..2 {
            circuits.record(&endpoint, "drop_ship", Sign::Unreachable, false, at(0));
        }
        assert_eq!((refuse(&circuits, &endpoint, 0), refuse(&circuits, &endpoint, 0)), (None, None));
        assert_eq!(circuits.of(&endpoint), Circuit::default());
        let (service, opened) = refuse(&circuits, &endpoint, 0).unwrap();
        assert_eq!((service.as_str(), opened.open_until), ("drop_ship", Some(at(30))));
        let gate = |service, now| circuits.gate(&endpoint, service, at(now));
        assert_eq!((gate("drop_ship", 29), gate("drop_ship", 30)), (Gate::Shut(at(30)), Gate::Ajar(None)));
        assert_eq!(gate("other", 0), Gate::Open);
        let well = |service| circuits.record(&endpoint, service, Sign::Well, false, at(31)).service;
        assert_eq!(
            (well("other"), well("drop_ship")),
            (None, Some(("drop_ship".to_owned(), Circuit::default())))
        );
        assert_eq!((well("drop_ship"), gate("drop_ship", 31)), (None, Gate::Open));
    }

    #[test]
    fn what_is_written_of_services_is_adopted_and_what_is_only_counted_stays() {
        let (circuits, endpoint) = (Circuits::default(), endpoint(4, 0, None));
        assert_eq!((refuse(&circuits, &endpoint, 0), refuse(&circuits, &endpoint, 0)), (None, None));
        // The definition says that there was something, and not what: it has to be read.
        assert!(circuits.changes([&endpoint].into_iter()) < 4);
        let circuit = Circuit { failures: 3, open_until: Some(at(30)) };
        let state = Service { circuit, probed_at: Some(at(31)) };
        let written = |changes, services| Written { changes, services, ..Written::default() };
        circuits.adopt(endpoint.id, written(4, vec![("notify".to_owned(), state)]));
        assert_eq!(circuits.changes([&endpoint].into_iter()), 4);
        assert_eq!(circuits.gate(&endpoint, "notify", at(40)), Gate::Ajar(Some(at(31))));
        assert_eq!((circuits.queue(&endpoint, "notify", 5), circuits.queue(&endpoint, "notify", 1)), (0, 5));
        circuits.adopt(endpoint.id, written(3, Vec::new()));
        assert_eq!(circuits.gate(&endpoint, "notify", at(0)), Gate::Shut(at(30)));
        circuits.adopt(endpoint.id, written(5, Vec::new()));
        assert_eq!(circuits.gate(&endpoint, "notify", at(0)), Gate::Open);
        assert!(refuse(&circuits, &endpoint, 0).is_some(), "two failures were counted before");
    }
}

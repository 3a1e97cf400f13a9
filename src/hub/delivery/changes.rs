//! What the ends of attempts change in the circuits of endpoints and of their services, gathered before it is written; and
//! what is to be told of that.

use super::circuit::Circuit;
use super::circuits::Change;
use super::store::circuits::{self, Changed, Turned};
use super::store::service_circuits::{self, Opened};
use crate::hub::notices::{Notice, Place};
use crate::worker::store::{self as engine, Which};
use sqlx::postgres::PgConnection;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// When a circuit closes, so many of those that wait for it and were never tried go at once. The others come by
/// themselves.
const HASTENED: i64 = 1000;

/// The changes of one settlement.
#[derive(Default)]
pub(super) struct Changes {
    endpoints: BTreeMap<i32, Turn>,
    services: BTreeMap<(i32, String), OfService>,
}

/// What an endpoint's attempts changed.
#[derive(Default)]
struct Turn {
    changed: Changed,
    /// Whether it is told when it is gone.
    tells_gone: bool,
    error: String,
}

/// What a service's attempts changed.
#[derive(Default)]
struct OfService {
    circuit: Circuit,
    tells: bool,
    error: String,
}

/// What follows from the changes of a settlement.
#[derive(Default)]
pub(super) struct Written {
    /// When something becomes due that waited for a service.
    pub(super) soonest: Option<Duration>,
    /// What is to be told.
    pub(super) notices: Vec<Notice>,
}

impl Changes {
    /// Notes what an attempt changed that failed for this reason, if it did. The last one that happened counts; it is
    /// told if one of them is.
    pub(super) fn note(&mut self, endpoint: i32, change: &Change, error: Option<&str>) {
        if change.is_none() {
            return;
        }
        let error = error.unwrap_or_default();
        let turn = self.endpoints.entry(endpoint).or_default();
        turn.changed.id = endpoint;
        turn.changed.gone = change.gone.or(turn.changed.gone);
        turn.tells_gone |= change.gone == Some(true) && !change.quiet;
        if let Some(circuit) = change.circuit {
            turn.changed.circuit = Some(circuit);
            turn.changed.tells |= circuit.open_until.is_some() && !change.quiet;
            error.clone_into(&mut turn.error);
        }
        if let Some((service, circuit)) = &change.service {
            let of_service = self.services.entry((endpoint, service.clone())).or_default();
            of_service.circuit = *circuit;
            of_service.tells |= circuit.open_until.is_some() && !change.quiet;
            error.clone_into(&mut of_service.error);
        }
    }

    /// Writes which circuits opened and closed. What waited for a service whose circuit closed, and was never tried, goes
    /// at once.
    pub(super) async fn write(self, tx: &mut PgConnection) -> sqlx::Result<Written> {
        let mut written = Written::default();
        if self.endpoints.is_empty() {
            return Ok(written);
        }
        let changed: Vec<Changed> = self.endpoints.values().map(|turn| turn.changed).collect();
        let turned = circuits::change(&mut *tx, &changed).await?;
        let turned: HashMap<i32, Turned> = turned.into_iter().map(|turned| (turned.id, turned)).collect();
        for (id, turn) in &self.endpoints {
            if let Some(turned) = turned.get(id) {
                written.notices.extend(turn.notices(turned));
            }
        }
        let place = |endpoint: i32| turned.get(&endpoint).map(Turned::place);
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for ((endpoint, service), OfService { circuit, tells, .. }) in &self.services {
            let (endpoint, service, circuit, tells) = (*endpoint, service.as_str(), *circuit, *tells);
            match circuit.open_until {
                Some(_) => opened.push(Opened { endpoint, service, circuit, tells }),
                None => closed.push((endpoint, service)),
            }
        }
        if !opened.is_empty() {
            let news = service_circuits::open(&mut *tx, &opened).await?;
            for (key, OfService { circuit, error, .. }) in &self.services {
                if let Some(place) = place(key.0).filter(|_| news.contains(key)) {
                    let place = Place { service: Some(&key.1), ..place };
                    written.notices.push(Notice::endpoint_failing(place, circuit.failures, error));
                }
            }
        }
        if !closed.is_empty() {
            for closed in service_circuits::close(&mut *tx, &closed).await? {
                if let Some(place) = place(closed.endpoint_id).filter(|_| closed.told) {
                    let place = Place { service: Some(&closed.service), ..place };
                    written.notices.push(Notice::endpoint_recovered(place));
                }
                let (lane, until) = (closed.endpoint_id, closed.open_until);
                if engine::hasten(&mut *tx, lane, Which::Untried, until, HASTENED).await? > 0 {
                    written.soonest = Some(Duration::ZERO);
                }
            }
        }
        Ok(written)
    }
}

impl Turn {
    fn notices(&self, turned: &Turned) -> Vec<Notice> {
        let place = turned.place();
        let mut notices = Vec::new();
        if turned.failing {
            let failures = self.changed.circuit.unwrap_or_default().failures;
            notices.push(Notice::endpoint_failing(place, failures, &self.error));
        }
        if turned.recovered {
            notices.push(Notice::endpoint_recovered(place));
        }
        if turned.gone && self.tells_gone {
            notices.push(Notice::endpoint_gone(place));
        }
        notices
    }
}

impl Turned {
    fn place(&self) -> Place<'_> {
        Place { store_id: self.store_id, endpoint: &self.name, service: None }
    }
}

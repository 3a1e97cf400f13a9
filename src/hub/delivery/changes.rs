//! What the ends of attempts change in the circuits of endpoints and of their services, gathered before it is written; and
//! what is to be told of that.

use crate::flow::circuit::Circuit;
use crate::flow::circuits::Change;
use crate::flow::store::circuits::{self, Changed, Turned};
use crate::flow::store::parts::{self, Opened};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::notices::{Notice, Place};
use crate::worker::store::{self as engine, Which};
use sqlx::postgres::PgConnection;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
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
        turn.changed.lane = endpoint;
        turn.changed.gone = change.gone.or(turn.changed.gone);
        turn.tells_gone |= change.gone == Some(true) && !change.quiet;
        if let Some(circuit) = change.circuit {
            turn.changed.circuit = Some(circuit);
            turn.changed.tells |= circuit.open_until.is_some() && !change.quiet;
            error.clone_into(&mut turn.error);
        }
        if let Some((service, circuit)) = &change.part {
            let of_service = self.services.entry((endpoint, service.clone())).or_default();
            of_service.circuit = *circuit;
            of_service.tells |= circuit.open_until.is_some() && !change.quiet;
            error.clone_into(&mut of_service.error);
        }
    }

    /// Writes which circuits opened and closed. What waited for a service whose circuit closed, and was never tried, goes
    /// at once.
    pub(super) async fn write(self, tx: &mut PgConnection, catalog: &Catalog) -> sqlx::Result<Written> {
        let mut written = Written::default();
        if self.endpoints.is_empty() {
            return Ok(written);
        }
        let changed: Vec<Changed> = self.endpoints.values().map(|turn| turn.changed).collect();
        let turned = circuits::change(&mut *tx, &changed).await?;
        // What is gone by now tells nothing.
        let endpoints: HashMap<i32, Arc<Endpoint>> =
            turned.iter().filter_map(|turned| Some((turned.lane, catalog.endpoint(turned.lane)?))).collect();
        let place = |lane: i32| endpoints.get(&lane).map(|endpoint| place(endpoint));
        for turned in &turned {
            if let (Some(turn), Some(place)) = (self.endpoints.get(&turned.lane), place(turned.lane)) {
                written.notices.extend(turn.notices(turned, place));
            }
        }
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for ((endpoint, service), OfService { circuit, tells, .. }) in &self.services {
            let (lane, part, circuit, tells) = (*endpoint, service.as_str(), *circuit, *tells);
            match circuit.open_until {
                Some(_) => opened.push(Opened { lane, part, circuit, tells }),
                None => closed.push((lane, part)),
            }
        }
        if !opened.is_empty() {
            let news = parts::open(&mut *tx, &opened).await?;
            for (key, OfService { circuit, error, .. }) in &self.services {
                if let Some(place) = place(key.0).filter(|_| news.contains(key)) {
                    let place = Place { service: Some(&key.1), ..place };
                    written.notices.push(Notice::endpoint_failing(place, circuit.failures, error));
                }
            }
        }
        if !closed.is_empty() {
            for closed in parts::close(&mut *tx, &closed).await? {
                if let Some(place) = place(closed.lane).filter(|_| closed.told) {
                    let place = Place { service: Some(&closed.part), ..place };
                    written.notices.push(Notice::endpoint_recovered(place));
                }
                let (lane, until) = (closed.lane, closed.open_until);
                if engine::hasten(&mut *tx, lane, Which::Untried, until, HASTENED).await? > 0 {
                    written.soonest = Some(Duration::ZERO);
                }
            }
        }
        Ok(written)
    }
}

impl Turn {
    fn notices(&self, turned: &Turned, place: Place<'_>) -> Vec<Notice> {
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

fn place(endpoint: &Endpoint) -> Place<'_> {
    Place { store_id: endpoint.store_id, endpoint: &endpoint.name, service: None }
}

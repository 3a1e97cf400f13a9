//! What the ends of attempts change in the circuits of endpoints and of their services, gathered before it is written.

use super::circuit::Circuit;
use super::circuits::Change;
use super::store::circuits::{self, Changed};
use super::store::service_circuits;
use crate::worker::store::{self as engine, Which};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::time::Duration;

/// When a circuit closes, so many of those that wait for it and were never tried go at once. The others come by
/// themselves.
const HASTENED: i64 = 1000;

/// The changes of one settlement.
#[derive(Default)]
pub(super) struct Changes {
    endpoints: BTreeMap<i32, Changed>,
    services: BTreeMap<(i32, String), Circuit>,
}

impl Changes {
    /// Notes what an attempt changed. The last one that happened counts.
    pub(super) fn note(&mut self, endpoint: i32, change: &Change) {
        if *change == Change::default() {
            return;
        }
        let nothing = Changed { id: endpoint, circuit: None, gone: None };
        let all = self.endpoints.entry(endpoint).or_insert(nothing);
        all.circuit = change.circuit.or(all.circuit);
        all.gone = change.gone.or(all.gone);
        if let Some((service, circuit)) = &change.service {
            self.services.insert((endpoint, service.clone()), *circuit);
        }
    }

    /// Writes which circuits opened and closed. What waited for a service whose circuit closed, and was never tried, goes
    /// at once; returns when that is due, if there is any.
    pub(super) async fn write(self, tx: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
        if self.endpoints.is_empty() {
            return Ok(None);
        }
        circuits::change(&mut *tx, &self.endpoints.into_values().collect::<Vec<_>>()).await?;
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for ((endpoint, service), circuit) in &self.services {
            match circuit.open_until {
                Some(_) => opened.push((*endpoint, service.as_str(), *circuit)),
                None => closed.push((*endpoint, service.as_str())),
            }
        }
        if !opened.is_empty() {
            service_circuits::open(&mut *tx, &opened).await?;
        }
        if closed.is_empty() {
            return Ok(None);
        }
        let mut due = None;
        for (lane, until) in service_circuits::close(&mut *tx, &closed).await? {
            if engine::hasten(&mut *tx, lane, Which::Untried, until, HASTENED).await? > 0 {
                due = Some(Duration::ZERO);
            }
        }
        Ok(due)
    }
}

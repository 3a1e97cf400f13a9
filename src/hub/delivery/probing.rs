//! Which deliveries go to services that are failing: none while the circuit is open, then one at a time, and one that was
//! never tried before those that were. The others wait, in the order of their turns, and take no place meanwhile.
//!
//! ```text
//!   claimed ──▶ gate ── open ──▶ sent
//!                ├──── shut ──▶ scheduled for the end of the cooldown, and all that are due behind it too
//!                └──── ajar ──▶ one is sent, if nobody tries yet; the others wait as long as that takes
//! ```
//! All who wait are scheduled, each for a moment of its own: nobody has to wake them, and none can be forgotten.

use super::consumer::{Deliveries, Ready};
use super::outcome::Outcome;
use super::store::deliveries;
use crate::db;
use crate::flow::circuits::Gate;
use crate::flow::store::parts;
use crate::hub::definitions::endpoint::Endpoint;
use crate::worker::{Claim, store as engine};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The most that are put behind those that were claimed at once.
const BATCH: i64 = 1000;
/// So many of those that wait come back together, and the next so many a second later: however many there are, they
/// leave the endpoint's other services their time.
const A_SECOND: usize = 1000;
/// Those that were tried come later than those that were not: for each attempt by a tenth of the cooldown, and by no more
/// than this.
const LATER: Duration = Duration::from_millis(250);
/// The shortest and the longest pause while another delivery tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A delivery that may be sent, or why it may not yet.
pub(super) type Admitted = (Vec<Ready>, Vec<(Claim, Outcome)>);

/// The deliveries to one service whose circuit is not closed.
struct Queue {
    endpoint: Arc<Endpoint>,
    gate: Gate,
    ready: Vec<Ready>,
}

impl Deliveries {
    /// Of deliveries that could be sent, those that may be; the others wait for their services.
    pub(super) async fn admit(&self, ready: Vec<Ready>) -> sqlx::Result<Admitted> {
        let now = self.now();
        let (mut sent, mut queues) = (Vec::with_capacity(ready.len()), BTreeMap::new());
        for ready in ready {
            let service = &ready.mapping.definition.service;
            match self.means.circuits.gate(ready.endpoint.guarded(), service, now) {
                Gate::Open => sent.push(ready),
                gate => {
                    let queue = queues.entry((ready.endpoint.id, service.clone())).or_insert_with(|| Queue {
                        endpoint: Arc::clone(&ready.endpoint),
                        gate,
                        ready: Vec::new(),
                    });
                    queue.ready.push(ready);
                }
            }
        }
        let mut waiting = Vec::new();
        for ((_, service), Queue { endpoint, gate, mut ready }) in queues {
            let until = match gate {
                Gate::Open => continue,
                Gate::Shut(until) => until,
                Gate::Ajar(probed_at) => {
                    ready.sort_by_key(|ready| ready.claim.attempt);
                    if self.may_try(&endpoint, &service, &ready[0].claim).await? {
                        sent.push(ready.remove(0));
                    }
                    now + pause(probed_at, now)
                }
            };
            if ready.is_empty() {
                continue;
            }
            // Those behind them would only be claimed to wait as well.
            let behind = self.set_aside(&endpoint, &service, gate, until).await;
            if let Err(error) = behind {
                tracing::debug!(%error, "cannot set aside what waits for a service; it is claimed to wait");
            }
            let first = self.place(&endpoint, &service, gate, ready.len());
            let turns = Turns { until, first, later: later(&endpoint) };
            for (place, Ready { claim, .. }) in ready.into_iter().enumerate() {
                let until = turns.of(place, claim.attempt - 1);
                waiting.push((claim, Outcome::Waits { service: service.clone(), until }));
            }
        }
        Ok((sent, waiting))
    }

    /// Whether this delivery may try if the service is back: of all processes, one says so at a time.
    async fn may_try(&self, endpoint: &Endpoint, service: &str, claim: &Claim) -> sqlx::Result<bool> {
        let known = self.means.circuits.changes_of(endpoint.guarded());
        let reserved = parts::reserve(&self.db.worker, endpoint.id, service, claim.lease, known);
        let may = db::bounded(reserved).await?;
        // Either way something has changed that is not known here.
        self.adopt(&[endpoint.id]).await?;
        Ok(may)
    }

    /// Sets aside what is due behind those that were claimed and would have to wait as well, at most [`BATCH`].
    async fn set_aside(
        &self,
        endpoint: &Endpoint,
        service: &str,
        gate: Gate,
        until: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        let mut mappings = self.catalog.of_store(endpoint.store_id);
        mappings
            .retain(|mapping| mapping.endpoint_id == endpoint.id && mapping.definition.service == service);
        let mappings: Vec<i32> = mappings.iter().map(|mapping| mapping.id).collect();
        let (lane, service) = (endpoint.id, service.to_owned());
        let behind = db::bounded(deliveries::behind(&self.db.worker, lane, &mappings, BATCH)).await?;
        if behind.is_empty() {
            return Ok(());
        }
        let first = self.place(endpoint, &service, gate, behind.len());
        let turns = Turns { until, first, later: later(endpoint) };
        let put_off = behind
            .into_iter()
            .enumerate()
            .map(|(turn, (place, attempts))| engine::PutOff { place, until: turns.of(turn, attempts) });
        let put_off: Vec<engine::PutOff> = put_off.collect();
        db::transaction(&self.db.worker, move |tx| {
            Box::pin(async move {
                // Who closes the circuit waits for us, and then finds what we have put off.
                if parts::locked(&mut *tx, &[(lane, service)]).await?.is_empty() {
                    return Ok(());
                }
                engine::put_off(tx, lane, &put_off).await
            })
        })
        .await
    }

    /// The first of `count` places among those that wait until a circuit is no longer open.
    fn place(&self, endpoint: &Endpoint, service: &str, gate: Gate, count: usize) -> usize {
        match gate {
            Gate::Shut(_) => self.means.circuits.queue(endpoint.guarded(), service, count),
            Gate::Open | Gate::Ajar(_) => 0,
        }
    }
}

/// When those come back that wait until a moment.
struct Turns {
    until: DateTime<Utc>,
    /// How many wait already.
    first: usize,
    /// How much later one comes for each attempt.
    later: Duration,
}

impl Turns {
    fn of(&self, place: usize, attempts: i16) -> DateTime<Utc> {
        let seconds = (self.first.saturating_add(place) / A_SECOND) as u64;
        let tried = self.later * u32::from(attempts.clamp(0, 10).unsigned_abs());
        let after = TimeDelta::from_std(Duration::from_secs(seconds) + tried).unwrap_or(TimeDelta::MAX);
        self.until.checked_add_signed(after).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

fn later(endpoint: &Endpoint) -> Duration {
    LATER.min(endpoint.definition.breaker.cooldown / 10)
}

/// How long to wait for the delivery that tries: as long again as it has taken.
fn pause(probed_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> TimeDelta {
    let taken = probed_at.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
    TimeDelta::from_std(taken.clamp(PAUSE.0, PAUSE.1)).unwrap_or_default()
}

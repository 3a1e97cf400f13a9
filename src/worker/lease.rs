//! Registers this process as a worker, says that it lives, and starts anew when it was given up.

use super::desk::Floor;
use super::store;
use super::tenure::Tenure;
use crate::db::{Database, bounded};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A row in `workers`, for as long as it counts.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) id: Uuid,
    /// How long what is claimed under it is ours.
    pub(super) tenure: Tenure,
}

/// What the database said the time was, and the moment before it was asked.
type Heard = (DateTime<Utc>, Instant);

/// This process's place among the workers.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) capacity: usize,
    /// What it can run.
    runs: Vec<String>,
    /// The process, under whichever registration.
    process: Uuid,
    current: Mutex<Option<Registered>>,
    /// Of the last registration or renewal that was answered.
    heard: Mutex<Option<Heard>>,
}

impl Registration {
    pub(super) fn new(name: String, lease: Duration, capacity: usize, runs: Vec<String>) -> Self {
        let process = Uuid::new_v4();
        Self { name, lease, capacity, runs, process, current: Mutex::new(None), heard: Mutex::new(None) }
    }

    /// What to claim under; `None` while the process does not count as alive.
    pub(super) fn current(&self) -> Option<Registered> {
        self.current.lock().clone().filter(|registered| !registered.tenure.is_over())
    }

    /// What time the database must say that it is by this process's own clock: where it says another, its clock was
    /// set. `None` before it was heard.
    fn expected(&self) -> Option<DateTime<Utc>> {
        self.heard.lock().map(|(then, at)| then + at.elapsed())
    }

    /// Keeps the process registered until `stop`.
    pub(super) async fn keep(&self, db: &Database, floor: &Floor, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let Some((id, asked)) = stop.run_until_cancelled(self.register(db)).await else { return };
            let tenure = Tenure::new(asked, self.lease);
            *self.current.lock() = Some(Registered { id, tenure: tenure.clone() });
            floor.wake.look();
            if stop.run_until_cancelled(self.renew(db, floor, id, asked, &tenure)).await.is_none() {
                return;
            }
            // Given up. What runs here is already, or soon, someone else's: its end would not count.
            *self.current.lock() = None;
            tenure.end();
            let stopped = floor.abandon();
            tracing::warn!(worker = %id, handlers = stopped, "this worker was given up: its handlers are stopped, it registers anew");
        }
    }

    /// The worker as which this process is registered, whether it still counts or not: nothing more of what it has
    /// claimed starts.
    pub(super) fn end(&self) -> Option<Uuid> {
        let Registered { id, tenure } = self.current.lock().clone()?;
        tenure.end();
        Some(id)
    }

    /// Takes this process's row away, so that what it still holds is reclaimed at once.
    pub(super) async fn leave(&self, db: &Database) {
        let registered = self.current.lock().take();
        let Some(Registered { id, tenure }) = registered else { return };
        tenure.end();
        if let Err(error) = bounded(store::deregister(&db.heartbeat, id)).await {
            tracing::warn!(%error, "cannot deregister; the lease will end by itself");
        }
    }

    async fn register(&self, db: &Database) -> (Uuid, Instant) {
        let mut pause = Duration::from_millis(100);
        loop {
            let id = Uuid::new_v4();
            let (asked, expected) = (Instant::now(), self.expected());
            let worker = store::Worker {
                id,
                process: self.process,
                name: &self.name,
                lease: self.lease,
                capacity: i32::try_from(self.capacity).unwrap_or(i32::MAX),
                runs: &self.runs,
            };
            match store::register(&db.heartbeat, &worker, expected).await {
                Ok(now) => {
                    self.hear(db, now, asked);
                    return (id, asked);
                }
                Err(error) => tracing::warn!(%error, "cannot register this worker; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The database says that it is `now`; it was asked at this moment.
    fn hear(&self, db: &Database, now: DateTime<Utc>, asked: Instant) {
        // By as much the database does not call it a step (see `store::renew`).
        let usual = TimeDelta::from_std(self.lease / 3).unwrap_or(TimeDelta::MAX);
        let off = self.expected().map(|expected| now - expected).filter(|off| off.abs() > usual);
        if let Some(off) = off {
            let seconds = off.num_seconds();
            tracing::warn!(
                seconds,
                "the database's clock was set: nothing is taken back for a lease from now"
            );
        }
        db.ids.set_clock(now);
        *self.heard.lock() = Some((now, asked));
    }

    /// Renews until the worker was given up, or could not renew for as long as its lease.
    async fn renew(&self, db: &Database, floor: &Floor, id: Uuid, registered: Instant, tenure: &Tenure) {
        let mut renewed = registered;
        let mut stopped = Vec::new();
        loop {
            // A third of the lease, so that two renewals may fail; soon again when the last one did.
            let late = renewed.elapsed() >= self.lease / 3;
            tokio::time::sleep(self.lease / if late { 15 } else { 3 }).await;
            // What stood still for a lease does not come back, though nobody may have noticed.
            if renewed.elapsed() >= self.lease {
                return;
            }
            let (asked, expected) = (Instant::now(), self.expected().unwrap_or_default());
            match tokio::time::timeout(self.lease / 3, store::renew(&db.heartbeat, id, expected, &stopped))
                .await
            {
                Ok(Ok(Some(store::Renewed { now, others, stops }))) => {
                    self.hear(db, now, asked);
                    floor.wake.abroad.set_others(others);
                    tenure.renewed(asked);
                    for item in &stops {
                        floor.stop(*item);
                    }
                    (renewed, stopped) = (asked, stops);
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew this worker's lease"),
                Err(_) => tracing::warn!("cannot renew this worker's lease: no answer"),
            }
            if renewed.elapsed() >= self.lease {
                return;
            }
        }
    }
}

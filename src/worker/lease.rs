//! Registers this process as a worker, says that it lives, and starts anew when it was given up.

use super::desk::Floor;
use super::store;
use crate::db::Database;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A row in `workers`, for as long as it counts.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) id: Uuid,
    /// Cancelled once it was given up: what was claimed under it is someone else's.
    pub(super) over: CancellationToken,
}

/// This process's place among the workers.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) capacity: usize,
    current: Mutex<Option<Registered>>,
}

impl Registration {
    pub(super) fn new(name: String, lease: Duration, capacity: usize) -> Self {
        Self { name, lease, capacity, current: Mutex::new(None) }
    }

    /// What to claim under; `None` while the process does not count as alive.
    pub(super) fn current(&self) -> Option<Registered> {
        self.current.lock().clone()
    }

    /// Keeps the process registered until `stop`.
    pub(super) async fn keep(&self, db: &Database, floor: &Floor, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let Some(id) = stop.run_until_cancelled(self.register(db)).await else { return };
            let over = CancellationToken::new();
            *self.current.lock() = Some(Registered { id, over: over.clone() });
            floor.wake.look();
            if stop.run_until_cancelled(self.renew(db, floor, id)).await.is_none() {
                return;
            }
            // Given up. What runs here is already, or soon, someone else's: its end would not count.
            *self.current.lock() = None;
            over.cancel();
            let stopped = floor.abandon();
            tracing::warn!(worker = %id, handlers = stopped, "this worker was given up: its handlers are stopped, it registers anew");
        }
    }

    /// Takes this process's row away, so that what it still holds is reclaimed at once.
    pub(super) async fn leave(&self, db: &Database) {
        let registered = self.current.lock().take();
        let Some(Registered { id, over }) = registered else { return };
        over.cancel();
        if let Err(error) = store::deregister(&db.heartbeat, id).await {
            tracing::warn!(%error, "cannot deregister; the lease will end by itself");
        }
    }

    async fn register(&self, db: &Database) -> Uuid {
        let mut pause = Duration::from_millis(100);
        loop {
            let id = Uuid::new_v4();
            let capacity = i32::try_from(self.capacity).unwrap_or(i32::MAX);
            match store::register(&db.heartbeat, id, &self.name, self.lease, capacity).await {
                Ok(()) => return id,
                Err(error) => tracing::warn!(%error, "cannot register this worker; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Renews until the worker was given up, or could not renew for as long as its lease.
    async fn renew(&self, db: &Database, floor: &Floor, id: Uuid) {
        let mut renewed = Instant::now();
        loop {
            // A third of the lease, so that two renewals may fail; soon again when the last one did.
            let late = renewed.elapsed() >= self.lease / 3;
            tokio::time::sleep(self.lease / if late { 15 } else { 3 }).await;
            let asked = Instant::now();
            match tokio::time::timeout(self.lease / 3, store::renew(&db.heartbeat, id)).await {
                Ok(Ok(Some((now, others)))) => {
                    db.ids.set_clock(now);
                    floor.wake.set_others(others);
                    renewed = asked;
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew this worker's lease"),
                Err(_) => tracing::warn!("cannot renew this worker's lease: no answer"),
            }
            if renewed.elapsed() > self.lease {
                return;
            }
        }
    }
}

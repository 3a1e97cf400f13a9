//! What is let go in time: weeks of messages, idempotency keys, what deleted queues and dead workers left.

use super::routes::Queues;
use super::store::retention::{KEYS, Messages};
use crate::db;
use crate::error::Result;
use crate::worker::retention::{self, Retention};
use crate::worker::store as engine;
use sqlx::postgres::PgPool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the instance is tidied.
const TIDY: Duration = Duration::from_mins(10);
/// Rows in one statement of the sweep.
const BATCH: i64 = 2000;

/// The tidying of the queues.
pub(super) struct Tidy {
    queues: Queues,
    holder: Uuid,
    retention: Retention<Messages>,
}

impl Tidy {
    pub(super) fn new(queues: Queues) -> Self {
        Self { queues, holder: Uuid::new_v4(), retention: Retention::default() }
    }

    /// Goes on until `stop`.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            // Who stops does not wait for it: whatever it is at is one transaction, or can be done again.
            if let Some(Err(error)) = stop.run_until_cancelled(self.tidy()).await {
                // Partitions are made two weeks ahead: trying at once would only stand in the way of whatever was
                // in ours.
                tracing::warn!(%error, "cannot tidy up; trying again later");
            }
            stop.run_until_cancelled(tokio::time::sleep(TIDY)).await;
        }
    }

    /// Makes partitions ahead and lets go what no queue wants any more; one process at a time. What fails is logged,
    /// and the rest is done all the same.
    async fn tidy(&mut self) -> Result<()> {
        let db = &self.queues.access.db;
        if let Err(error) = retention::make_ahead::<Messages>(&db.worker).await {
            tracing::warn!(%error, "cannot make partitions ahead; trying again later");
        }
        if !engine::take_duty(&db.worker, "retention", self.holder, TIDY.as_secs_f64() * 2.0).await? {
            return Ok(());
        }
        if let Err(error) = sweep_lanes(&db.worker).await {
            tracing::warn!(%error, "cannot sweep what deleted queues left; trying again later");
        }
        if !self.queues.access.catalog.is_complete() {
            tracing::warn!(
                "a definition cannot be used: nothing is dropped, since its retention is not known"
            );
            return Ok(());
        }
        let mut longest = Duration::from_hours(1);
        self.queues.access.catalog.each(|queue| longest = longest.max(queue.definition.options.retention));
        let Some(keep_after) = db.ids.now().map(|now| now - longest) else { return Ok(()) };
        if let Err(error) = retention::forget(&db.worker, &KEYS, keep_after).await {
            tracing::warn!(%error, "cannot forget idempotency keys; trying again later");
        }
        self.retention.tidy(&db.worker, keep_after).await;
        Ok(())
    }
}

/// Deletes what waits in lanes that are gone, and the rows of workers that died and held nothing.
async fn sweep_lanes(pool: &PgPool) -> sqlx::Result<()> {
    engine::bury(&mut *pool.acquire().await?).await?;
    while db::transaction::<_, sqlx::Error, _>(pool, |tx| Box::pin(engine::sweep(tx, BATCH))).await?
        >= BATCH.unsigned_abs()
    {}
    Ok(())
}

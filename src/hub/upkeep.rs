//! What goes on beside the messages of the hub: partitions ahead and behind, old rows forgotten.
//!
//! Partitions are made by every process; the rest is done by one at a time, by a leased row.

use super::store::{retention, ticks};
use crate::db::{self, Database, partitions};
use crate::worker::store as engine;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the hub is tidied, and by how much more at random: processes that started together drift apart.
const TIDY: Duration = Duration::from_mins(10);
const JITTER: u64 = 60_000;
/// For how long messages, deliveries, log entries and idempotency keys are kept.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// For how long the same identifiers do not go to a mapping again.
const KEEP_IDENTIFIERS: Duration = Duration::from_hours(90 * 24);
/// For how long it is known which moments of a schedule fired.
const KEEP_TICKS: Duration = Duration::from_hours(7 * 24);
/// Rows in one statement.
const BATCH: i64 = 2000;

/// Tidies until `stop`.
pub async fn run(db: Database, stop: CancellationToken) {
    let holder = Uuid::new_v4();
    while !stop.is_cancelled() {
        if let Err(error) = tidy(&db, holder).await {
            tracing::warn!(%error, "cannot tidy the hub; trying again later");
        }
        let pause = TIDY + Duration::from_millis(rand::random_range(0..=JITTER));
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

async fn tidy(db: &Database, holder: Uuid) -> sqlx::Result<()> {
    let pool = &db.worker;
    partitions::make_ahead(pool, retention::PARTITIONED).await?;
    if !engine::take_duty(pool, "hub", holder, TIDY.as_secs_f64() * 2.0).await? {
        return Ok(());
    }
    let Some(now) = db.ids.now() else { return Ok(()) };
    let keep_after = now - KEEP;
    for week in partitions::expired(pool, "hub_messages", keep_after).await? {
        let name = week.suffix.clone();
        let dropped = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move { retention::drop_week(tx, &week, keep_after).await })
        })
        .await?;
        if !dropped {
            tracing::info!(week = name, "kept: something of the hub in it is still wanted");
            continue;
        }
        tracing::info!(week = name, "dropped a week of the hub's messages");
    }
    let full = BATCH.unsigned_abs();
    while retention::forget_keys(pool, keep_after, BATCH).await? >= full {}
    while retention::forget_identifiers(pool, now - KEEP_IDENTIFIERS, BATCH).await? >= full {}
    while retention::forget_log_entries(pool, keep_after, BATCH).await? >= full {}
    while ticks::forget(pool, now - KEEP_TICKS, BATCH).await? >= full {}
    Ok(())
}

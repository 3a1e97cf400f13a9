//! What goes on beside the messages of the hub: partitions ahead and behind, old rows forgotten.
//!
//! Partitions are made by every process; the rest is done by one at a time, by a leased row.

pub mod store;

use crate::db::{self, Database};
use crate::flow::store::parts;
use crate::hub::definitions::store::{astray, mappings};
use crate::worker::retention::{self, Retention};
use crate::worker::store as engine;
use sqlx::postgres::PgPool;
use std::time::Duration;
use store::{DESCENDANTS, Hub, IDENTIFIERS, KEYS, LOG_ENTRIES, TICKS};
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
/// Tidies until `stop`.
pub async fn run(db: Database, stop: CancellationToken) {
    let holder = Uuid::new_v4();
    let mut retention = Retention::default();
    while !stop.is_cancelled() {
        // Who stops does not wait for it: whatever it is at is one transaction, or can be done again.
        if let Some(Err(error)) = stop.run_until_cancelled(tidy(&db, holder, &mut retention)).await {
            tracing::warn!(%error, "cannot tidy the hub; trying again later");
        }
        let pause = TIDY + Duration::from_millis(rand::random_range(0..=JITTER));
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// What fails is logged, and the rest is done all the same.
async fn tidy(db: &Database, holder: Uuid, retention: &mut Retention<Hub>) -> sqlx::Result<()> {
    let pool = &db.worker;
    if let Err(error) = retention::make_ahead::<Hub>(pool).await {
        tracing::warn!(%error, "cannot make partitions of the hub ahead; trying again later");
    }
    if !engine::take_duty(pool, "hub", holder, TIDY.as_secs_f64() * 2.0).await? {
        return Ok(());
    }
    if let Err(error) = look_after_retired_lanes(pool).await {
        tracing::warn!(%error, "cannot look for deliveries at endpoints that were deleted; trying again later");
    }
    if let Err(error) = forget_unnamed(pool).await {
        tracing::warn!(%error, "cannot forget circuits of services without a mapping; trying again later");
    }
    let Some(now) = db.ids.now() else { return Ok(()) };
    for (old, keep) in [
        (KEYS, KEEP),
        (DESCENDANTS, KEEP),
        (IDENTIFIERS, KEEP_IDENTIFIERS),
        (LOG_ENTRIES, KEEP),
        (TICKS, KEEP_TICKS),
    ] {
        if let Err(error) = retention::forget(pool, &old, now - keep).await {
            tracing::warn!(%error, table = old.table, "cannot forget what is old; trying again later");
        }
    }
    retention.tidy(pool, now - KEEP).await;
    let forgotten =
        db::transaction::<_, sqlx::Error, _>(pool, |tx| Box::pin(mappings::forget_deleted(tx))).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "forgot deleted mappings");
    }
    Ok(())
}

/// Forgets circuits of services that no mapping names any more.
async fn forget_unnamed(pool: &PgPool) -> sqlx::Result<()> {
    let unnamed = mappings::unnamed_services(pool).await?;
    if unnamed.is_empty() { Ok(()) } else { parts::forget(pool, &unnamed).await }
}

/// Finds what came to endpoints after they were deleted: a push that still knew them.
async fn look_after_retired_lanes(pool: &PgPool) -> sqlx::Result<()> {
    for (lane, is_old) in engine::retired_lanes(pool, "endpoint").await? {
        let moved = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move {
                engine::release_dead(&mut *tx, lane).await?;
                let ready = astray::redirect(&mut *tx, lane).await?;
                astray::park(&mut *tx, lane).await?;
                if is_old && !engine::is_leased(&mut *tx, lane).await? {
                    engine::remove_lane(tx, lane).await?;
                }
                Ok(!ready.is_empty())
            })
        });
        if moved.await? {
            tracing::info!(
                lane,
                "deliveries came to an endpoint that was deleted: they go where their mappings send"
            );
        }
    }
    Ok(())
}

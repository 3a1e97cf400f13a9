//! The SQL of upkeep: which weeks of messages are wanted no more, and what else is forgotten in time.

use crate::db::partitions::{self, Week};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// The tables that are partitioned by the time of their ids, in the order in which a settlement locks them.
pub const PARTITIONED: &[&str] = &["delivery_attempts", "deliveries", "hub_messages"];

/// Whether something of this week is still wanted: a message that is to be routed, a delivery that is unfinished, is
/// parked until somebody decides, or ended after `keep_after`. A delivery may be younger than its message.
async fn is_wanted(db: impl PgExecutor<'_>, week: &Week, keep_after: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM hub_messages WHERE id >= week.lower AND id < week.upper AND state = 'pending')
            OR EXISTS (
                SELECT
                FROM deliveries
                WHERE ((message_id >= week.lower AND message_id < week.upper) OR (id >= week.lower AND id < week.upper))
                    AND (status = 'PENDING' OR (parked AND archived_at IS NULL) OR finished_at > $2)
            ) AS "is!"
        FROM (
            SELECT uuid_v7_floor(uuid_v7_time($1) - interval '7 days') AS lower, $1::uuid AS upper
        ) AS week
        "#,
        week.upper,
        keep_after,
    )
    .fetch_one(db)
    .await
}

/// Drops a week of all three tables, unless something in it is still wanted; says whether it did. What takes long is
/// asked before the lock, and asked again under it, so that nobody sends one again in between.
pub async fn drop_week(tx: &mut PgConnection, week: &Week, keep_after: DateTime<Utc>) -> sqlx::Result<bool> {
    if is_wanted(&mut *tx, week, keep_after).await? {
        return Ok(false);
    }
    partitions::lock(&mut *tx, PARTITIONED, week).await?;
    if is_wanted(&mut *tx, week, keep_after).await? {
        return Ok(false);
    }
    partitions::drop(tx, PARTITIONED, week).await?;
    Ok(true)
}

/// Deletes a bounded number of idempotency keys older than `keep_after`; gives how many.
pub async fn forget_keys(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        DELETE FROM hub_idempotency_keys
        WHERE (store_id, key) IN (
            SELECT store_id, key FROM hub_idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2
        )
        "#,
        keep_after,
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

/// As [`forget_keys`], for the identifiers that mappings were sent.
pub async fn forget_identifiers(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        DELETE FROM delivered_identifiers
        WHERE (mapping_id, digest) IN (
            SELECT mapping_id, digest FROM delivered_identifiers WHERE created_at < $1 ORDER BY created_at LIMIT $2
        )
        "#,
        keep_after,
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

/// As [`forget_keys`], for log entries that were not repeated since.
pub async fn forget_log_entries(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        DELETE FROM log_entries
        WHERE id IN (
            SELECT id FROM log_entries WHERE first_seen < $1 AND last_seen < $1 ORDER BY first_seen LIMIT $2
        )
        "#,
        keep_after,
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

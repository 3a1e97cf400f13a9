//! The SQL of upkeep: which weeks of messages are wanted no more, keys that are forgotten.

use crate::db::partitions::{self, Week};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

/// The tables that are partitioned by the time of their ids, in the order in which a settlement locks them.
pub const PARTITIONED: &[&str] = &["outcomes", "attempts", "messages"];

/// Whether a message from before `upper` may still run: it is ready, scheduled or leased.
async fn is_alive_before(db: impl PgExecutor<'_>, upper: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM dispatch JOIN lanes ON lanes.id = lane WHERE item < $1 AND kind = 'queue')
            OR EXISTS (SELECT FROM scheduled JOIN lanes ON lanes.id = lane WHERE item < $1 AND kind = 'queue')
            OR EXISTS (SELECT FROM leases WHERE $1 > ANY (items)) AS "alive!"
        "#,
        upper,
    )
    .fetch_one(db)
    .await
}

/// Drops a week of all three tables, unless a message in it may still run or ended after `keep_after`; says whether
/// it did. What takes long is asked before the lock, and asked again under it, so that nobody runs one again in
/// between.
pub async fn drop_week(tx: &mut PgConnection, week: &Week, keep_after: DateTime<Utc>) -> sqlx::Result<bool> {
    let late = format!("SELECT EXISTS (SELECT FROM outcomes{} WHERE finished_at > $1)", week.suffix);
    let ended_late: bool =
        sqlx::query_scalar(AssertSqlSafe(late)).bind(keep_after).fetch_one(&mut *tx).await?;
    if ended_late || is_alive_before(&mut *tx, week.upper).await? {
        return Ok(false);
    }
    partitions::lock(&mut *tx, PARTITIONED, week).await?;
    if is_alive_before(&mut *tx, week.upper).await? {
        return Ok(false);
    }
    partitions::drop(tx, PARTITIONED, week).await?;
    Ok(true)
}

/// Deletes a bounded number of keys older than `keep_after`; gives how many.
pub async fn forget_keys(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let keys = sqlx::query!(
        r#"
        DELETE FROM idempotency_keys
        WHERE (queue_id, key) IN (
            SELECT queue_id, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2
        )
        "#,
        keep_after,
        limit,
    )
    .execute(db)
    .await?;
    Ok(keys.rows_affected())
}

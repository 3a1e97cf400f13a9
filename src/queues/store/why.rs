//! The SQL of why a message is not running: what its own tables know.

use crate::worker::store::why::{LOOKED_AT, Taken, TakenBy};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A message, as far as it matters to whether it runs.
#[derive(Debug, Clone)]
pub struct Row {
    /// The negated priority.
    pub rank: i16,
    /// COMPLETE or ERROR, once it has ended.
    pub ended: Option<String>,
    /// The claims whose attempts have ended.
    pub ended_leases: Vec<Uuid>,
    /// When its queue was paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Which key the secret of its queue is sealed with.
    pub key_id: Option<String>,
}

/// A message of a queue.
pub async fn row(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            m.rank, o.status::text AS ended, q.paused_at, q.paused_by, q.key_id,
            ARRAY(
                SELECT a.lease FROM attempts AS a WHERE a.queue_id = $1 AND a.id = $2 LIMIT $3
            ) AS "ended_leases!"
        FROM messages AS m
        JOIN queues AS q ON q.id = m.queue_id
        LEFT JOIN outcomes AS o ON o.queue_id = $1 AND o.id = $2
        WHERE m.queue_id = $1 AND m.id = $2
        "#,
        queue_id,
        id,
        LOOKED_AT,
    )
    .fetch_optional(db)
    .await
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub struct Last {
    /// Its number.
    pub attempt: i16,
    /// How it ended, in one word.
    pub ending: String,
    /// Why it failed: JSON, or the beginning of it; `None` where that is not told.
    pub error: Option<String>,
}

/// The attempt of a message that ended last.
pub async fn last_attempt(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<Option<Last>> {
    sqlx::query_as!(
        Last,
        r#"
        SELECT attempt, ending::text AS "ending!", left(error::text, 4000) AS error
        FROM attempts
        WHERE queue_id = $1 AND id = $2
        ORDER BY finished_at DESC
        LIMIT 1
        "#,
        queue_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// What runs of a queue, at most `LOOKED_AT`. What has ended of a lease of many does not count.
pub async fn taken(db: impl PgExecutor<'_>, queue_id: i32) -> sqlx::Result<Taken> {
    let rows = sqlx::query!(
        r#"
        WITH running AS MATERIALIZED (
            SELECT l.item, l.claimed_at, l.worker, coalesce(l.holder, w.name) AS holder
            FROM leased_items AS l
            LEFT JOIN workers AS w ON w.id = l.worker
            WHERE l.lane = $1
                AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = $1 AND o.id = l.item LIMIT 1)
                AND NOT EXISTS (
                    SELECT FROM attempts AS a WHERE a.queue_id = $1 AND a.id = l.item AND a.lease = l.lease LIMIT 1
                )
            LIMIT $2
        )
        SELECT
            worker, holder AS "holder?", count(*) AS "count!",
            (array_agg(item ORDER BY claimed_at, item))[1:10] AS "items!",
            (array_agg(claimed_at ORDER BY claimed_at, item))[1:10] AS "since!"
        FROM running
        GROUP BY worker, holder
        "#,
        queue_id,
        LOOKED_AT,
    )
    .fetch_all(db)
    .await?;
    let by = rows
        .into_iter()
        .map(|row| TakenBy::new(row.worker, row.holder.as_deref(), row.count, row.items, row.since));
    Ok(Taken::of(by.collect()))
}

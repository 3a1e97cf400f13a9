//! The SQL of following a queue: what was pushed, and how it ended, since one last looked.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;
use uuid::Uuid;

/// The id after which the newest `count` messages come; nil when there are fewer.
pub async fn before_newest(db: impl PgExecutor<'_>, queue_id: i32, count: i64) -> sqlx::Result<Uuid> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM messages WHERE queue_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1",
        queue_id,
        count,
    )
    .fetch_optional(db)
    .await?;
    Ok(id.unwrap_or_default())
}

/// A message that was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// Its id.
    pub id: Uuid,
    /// When, as its id says.
    pub at: DateTime<Utc>,
    /// Its body.
    pub request: Json<Box<RawValue>>,
}

/// Messages after the id `after` but for those in `seen`, oldest first, at most `limit`.
pub async fn pushed(
    db: impl PgExecutor<'_>,
    queue_id: i32,
    after: Uuid,
    seen: &[Uuid],
    limit: i64,
) -> sqlx::Result<Vec<Pushed>> {
    sqlx::query_as!(
        Pushed,
        r#"
        SELECT id, uuid_v7_time(id) AS "at!", request AS "request: Json<Box<RawValue>>"
        FROM messages
        WHERE queue_id = $1 AND id > $2 AND id <> ALL ($3)
        ORDER BY id
        LIMIT $4
        "#,
        queue_id,
        after,
        seen,
        limit,
    )
    .fetch_all(db)
    .await
}

/// How a message ended.
#[derive(Debug)]
pub struct Ended {
    /// The message.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// COMPLETE or ERROR.
    pub status: String,
    /// How long its last attempt took, in milliseconds.
    pub ran_ms: f64,
    /// The result or the error.
    pub end: Json<Box<RawValue>>,
}

/// The ends of those of `ids` that have ended, in the order of their ends.
pub async fn ended(db: impl PgExecutor<'_>, queue_id: i32, ids: &[Uuid]) -> sqlx::Result<Vec<Ended>> {
    sqlx::query_as!(
        Ended,
        r#"
        SELECT
            id, finished_at AS at, status::text AS "status!",
            (extract(epoch FROM finished_at - started_at) * 1000)::float8 AS "ran_ms!",
            coalesce(result, error) AS "end!: Json<Box<RawValue>>"
        FROM outcomes
        WHERE queue_id = $1 AND id = ANY ($2) AND id BETWEEN $3 AND $4
        ORDER BY finished_at, id
        "#,
        queue_id,
        ids,
        ids.iter().min().copied().unwrap_or_default(),
        ids.iter().max().copied().unwrap_or_default(),
    )
    .fetch_all(db)
    .await
}

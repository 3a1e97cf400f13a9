//! The SQL of why a job is not running: what its own tables know.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A job, as far as it matters to whether it runs.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name in the engine.
    pub item: Uuid,
    /// The newest status.
    pub status: String,
    /// When a worker took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it is ended if it still runs.
    pub deadline: Option<DateTime<Utc>>,
    /// When its question expires.
    pub answer_by: Option<DateTime<Utc>>,
    /// When it is ended since its cancellation was requested.
    pub cancel_by: Option<DateTime<Utc>>,
    /// What it asks for.
    pub asks: Option<String>,
    /// Since when.
    pub asks_since: Option<DateTime<Utc>>,
    /// Which key its data is sealed with.
    pub key_id: Option<String>,
}

/// A job of this type.
pub async fn row(db: impl PgExecutor<'_>, type_id: i32, id: i64) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            j.item, j.status, j.started_at, j.completed_at, j.deadline, j.answer_by, j.cancel_by,
            e.type AS "asks?", e.created_at AS "asks_since?", j.key_id
        FROM jobs AS j
        LEFT JOIN envelopes AS e ON e.job_id = j.id AND e.status = 'PENDING'
        WHERE j.id = $2 AND j.type_id = $1
        "#,
        type_id,
        id,
    )
    .fetch_optional(db)
    .await
}

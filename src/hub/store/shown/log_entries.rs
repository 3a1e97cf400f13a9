//! The SQL of log entries as people see them.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A log entry.
#[derive(Debug)]
pub struct Row {
    /// The entry.
    pub id: i64,
    /// info, warn or error.
    pub level: String,
    /// In a few words.
    pub subject: String,
    /// In more.
    pub description: String,
    /// How often the same was said.
    pub occurrences: i32,
    /// The message it is about.
    pub message_id: Option<Uuid>,
    /// What else it is about.
    pub reference_type: Option<String>,
    /// Which one.
    pub reference_id: Option<String>,
    /// When it was first said.
    pub first_seen: DateTime<Utc>,
    /// When it was last said.
    pub last_seen: DateTime<Utc>,
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// info, warn or error.
    pub level: Option<String>,
    /// What it is about.
    pub reference_type: Option<String>,
    /// Which one.
    pub reference: Option<String>,
    /// About this message.
    pub message_id: Option<Uuid>,
}

/// A page of log entries, newest first, older than the entry `before`.
pub async fn list(
    db: impl PgExecutor<'_>,
    store_id: i32,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            id, level::text AS "level!", subject, description, occurrences, message_id, reference_type,
            reference_id, first_seen, last_seen
        FROM log_entries
        WHERE store_id = $1
            AND ($2::text IS NULL OR level = $2::text::log_level)
            AND ($3::text IS NULL OR reference_type = $3)
            AND ($4::text IS NULL OR reference_id = $4)
            AND ($5::uuid IS NULL OR message_id = $5)
            AND id < coalesce($6, 9223372036854775807)
        ORDER BY id DESC
        LIMIT $7
        "#,
        store_id,
        filter.level,
        filter.reference_type,
        filter.reference,
        filter.message_id,
        before,
        limit,
    )
    .fetch_all(db)
    .await
}

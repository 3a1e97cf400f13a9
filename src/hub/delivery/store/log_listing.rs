//! The SQL of log entries as people see them.

use crate::db;
use crate::hub::listing::page::{Page, WALK};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
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

/// A page of log entries, newest first, older than the entry `before`. The entries about a message, about a thing, and
/// of a level have indexes; what else is asked for is looked for among those (`crate::hub::listing::page`).
pub async fn page(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Page<Row, i64>> {
    db::plan_by_rows(&mut *tx).await?;
    let before = before.unwrap_or(i64::MAX);
    let found = if let Some(message) = filter.message_id {
        about_message(&mut *tx, store_id, message, filter, before, limit).await?
    } else if let Some(reference) = filter.reference.as_deref() {
        about_thing(&mut *tx, store_id, reference, filter, before, limit).await?
    } else {
        of_levels(&mut *tx, store_id, filter, before, limit).await?
    };
    let short = i64::try_from(found.ids.len()).is_ok_and(|count| count < limit);
    let stopped_at = found.end.filter(|_| short);
    Ok(Page { rows: rows(tx, &found.ids).await?, stopped_at })
}

/// What was found, and the last that was looked at if there may be more.
struct Found {
    ids: Vec<i64>,
    end: Option<i64>,
}

async fn about_message(
    tx: &mut PgConnection,
    store_id: i32,
    message: Uuid,
    filter: &Filter,
    before: i64,
    limit: i64,
) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, store_id, level, reference_type, reference_id
            FROM log_entries
            WHERE message_id = $1 AND id < $2
            ORDER BY id DESC
            LIMIT $3
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE store_id = $4
                    AND ($5::text IS NULL OR level = $5::text::log_level)
                    AND ($6::text IS NULL OR reference_type = $6)
                    AND ($7::text IS NULL OR reference_id = $7)
                ORDER BY id DESC
                LIMIT $8
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $3 - 1) AS end
        "#,
        message,
        before,
        WALK,
        store_id,
        filter.level,
        filter.reference_type,
        filter.reference,
        limit,
    )
    .fetch_one(tx)
    .await
}

async fn about_thing(
    tx: &mut PgConnection,
    store_id: i32,
    reference: &str,
    filter: &Filter,
    before: i64,
    limit: i64,
) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, level, reference_type
            FROM log_entries
            WHERE store_id = $1 AND reference_id = $4 AND id < $2
            ORDER BY id DESC
            LIMIT $3
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE ($5::text IS NULL OR level = $5::text::log_level)
                    AND ($6::text IS NULL OR reference_type = $6)
                ORDER BY id DESC
                LIMIT $7
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $3 - 1) AS end
        "#,
        store_id,
        before,
        WALK,
        reference,
        filter.level,
        filter.reference_type,
        limit,
    )
    .fetch_one(tx)
    .await
}

/// Of each level that is asked for the newest; up to where the first of them ends, nothing is left out.
async fn of_levels(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    before: i64,
    limit: i64,
) -> sqlx::Result<Found> {
    let look = if filter.reference_type.is_some() { WALK } else { limit };
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT l.id, l.level, l.reference_type
            FROM unnest(enum_range(NULL::log_level)) AS wanted (level)
            CROSS JOIN LATERAL (
                SELECT id, level, reference_type
                FROM log_entries
                WHERE store_id = $1 AND level = wanted.level AND id < $2
                ORDER BY id DESC
                LIMIT $3
            ) AS l
            WHERE $4::text IS NULL OR wanted.level = $4::text::log_level
        ),
        stop AS (
            SELECT max(at) AS at
            FROM (SELECT min(id) AS at FROM looked GROUP BY level HAVING count(*) >= $3) AS ended
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE ($5::text IS NULL OR reference_type = $5) AND id >= coalesce((SELECT at FROM stop), 0)
                ORDER BY id DESC
                LIMIT $6
            ) AS "ids!",
            (SELECT at FROM stop) AS end
        "#,
        store_id,
        before,
        look,
        filter.level,
        filter.reference_type,
        limit,
    )
    .fetch_one(tx)
    .await
}

/// These entries, newest first.
async fn rows(tx: &mut PgConnection, ids: &[i64]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            id, level::text AS "level!", subject, description, occurrences, message_id, reference_type,
            reference_id, first_seen, last_seen
        FROM log_entries
        WHERE id = ANY ($1)
        ORDER BY id DESC
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

//! The SQL of messages as people see them: read, delete, run again.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// A message with its status, as the view and all readers see it.
#[derive(Debug)]
pub struct Row {
    /// The message.
    pub id: Uuid,
    /// One of the four words.
    pub status: String,
    /// The body as it was sent.
    pub request: Json<Box<RawValue>>,
    /// What the handler resolved with.
    pub result: Option<Json<Box<RawValue>>>,
    /// What it rejected with.
    pub error: Option<Json<Box<RawValue>>>,
    /// Its own key.
    pub key: Option<String>,
}

/// Makes every statement of the transaction see one moment.
pub async fn one_moment(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(tx).await?;
    Ok(())
}

/// One message.
pub async fn get(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            id AS "id!", status::text AS "status!", request AS "request!: Json<Box<RawValue>>",
            result AS "result: Json<Box<RawValue>>", error AS "error: Json<Box<RawValue>>", key
        FROM queue_messages
        WHERE queue_id = $1 AND id = $2
        "#,
        queue_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Whether the queue has this message.
pub async fn exists(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM messages WHERE queue_id = $1 AND id = $2) AS "exists!""#,
        queue_id,
        id,
    )
    .fetch_one(db)
    .await
}

/// What the admin view adds to a message.
#[derive(Debug)]
pub struct Details {
    /// The negated priority.
    pub rank: i16,
    /// When it was pushed.
    pub created_at: DateTime<Utc>,
    /// When it is due, while it waits for a time.
    pub run_at: Option<DateTime<Utc>>,
    /// When the attempt that runs now was claimed, and by whom.
    pub claimed_at: Option<DateTime<Utc>>,
    /// Who runs it now.
    pub holder: Option<String>,
    /// The request that it comes of.
    pub request_id: Option<String>,
    /// The trace that it is a part of, in hexadecimal digits.
    pub trace_id: Option<String>,
}

/// The details of one message.
pub async fn details(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<Option<Details>> {
    sqlx::query_as!(
        Details,
        r#"
        SELECT
            m.rank, uuid_v7_time(m.id) AS "created_at!", s.run_at AS "run_at?",
            l.claimed_at AS "claimed_at?", coalesce(l.holder, w.name) AS "holder?", m.request_id,
            encode(substr(m.trace, 1, 16), 'hex') AS trace_id
        FROM messages AS m
        LEFT JOIN scheduled AS s ON s.item = m.id
        LEFT JOIN leased_items AS l ON l.lane = $1 AND l.item = $2 AND NOT EXISTS (
            SELECT FROM attempts AS a WHERE a.queue_id = m.queue_id AND a.id = m.id AND a.lease = l.lease
        )
        LEFT JOIN workers AS w ON w.id = l.worker
        WHERE m.queue_id = $1 AND m.id = $2
        LIMIT 1
        "#,
        queue_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Attempt {
    /// Its number.
    pub attempt: i16,
    /// When it was claimed.
    pub started_at: DateTime<Utc>,
    /// When its end was written.
    pub finished_at: DateTime<Utc>,
    /// How it came to its end, in one word.
    pub ending: String,
    /// Who ran it.
    pub worker: Option<String>,
    /// Why it failed; null for the one that completed the message.
    pub error: Option<Json<Box<RawValue>>>,
    /// What the handler logged.
    pub logs: Option<Json<Box<RawValue>>>,
}

/// All ended attempts of one message, oldest first.
pub async fn attempts(db: impl PgExecutor<'_>, queue_id: i32, id: Uuid) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        r#"
        SELECT
            attempt AS "attempt!", started_at AS "started_at!", finished_at AS "finished_at!",
            ending::text AS "ending!", worker,
            error AS "error: Json<Box<RawValue>>", logs AS "logs: Json<Box<RawValue>>"
        FROM (
            SELECT attempt, started_at, finished_at, ending, worker, error, logs
            FROM attempts WHERE queue_id = $1 AND id = $2
            UNION ALL
            SELECT attempt, started_at, finished_at, ending, worker, error, logs
            FROM outcomes WHERE queue_id = $1 AND id = $2
        ) AS ended
        ORDER BY started_at, finished_at
        "#,
        queue_id,
        id,
    )
    .fetch_all(db)
    .await
}

/// What is to be run again.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Pushed at or after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Pushed before this moment.
    pub created_before: Option<DateTime<Utc>>,
}

/// Deletes a message and all that is known of it; says whether it was there.
pub async fn delete(tx: &mut PgConnection, queue_id: i32, id: Uuid) -> sqlx::Result<bool> {
    let deleted = sqlx::query!(
        r#"
        WITH tried AS (
            DELETE FROM attempts WHERE queue_id = $1 AND id = $2
        ),
        ended AS (
            DELETE FROM outcomes WHERE queue_id = $1 AND id = $2
        )
        DELETE FROM messages WHERE queue_id = $1 AND id = $2
        "#,
        queue_id,
        id,
    )
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// A message that runs again, or does not, since another holds its value.
#[derive(Debug)]
pub struct Again {
    /// The message.
    pub id: Uuid,
    /// Its negated priority.
    pub rank: i16,
    /// The message that holds its value, and has not ended.
    pub held_by: Option<Uuid>,
}

/// Runs messages in ERROR again, oldest first, at most `limit`: one, or all that the filter fits and that come
/// behind `after`. Their ends become history, and their attempts count from the start. Where messages of the queue may be
/// unique, see [`retry_unique`].
pub async fn retry(
    db: impl PgExecutor<'_>,
    queue_id: i32,
    one: Option<Uuid>,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Again>> {
    sqlx::query_as!(
        Again,
        r#"
        WITH failed AS MATERIALIZED (
            SELECT queue_id, id
            FROM outcomes
            WHERE queue_id = $1
                AND status = 'ERROR'
                AND ($2::uuid IS NULL OR id = $2)
                AND id >= coalesce(uuid_v7_floor($3), '00000000-0000-0000-0000-000000000000'::uuid)
                AND id < coalesce(uuid_v7_floor($4), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
                AND id > coalesce($6, '00000000-0000-0000-0000-000000000000'::uuid)
            ORDER BY id
            LIMIT $5
            FOR UPDATE SKIP LOCKED
        ),
        reopened AS (
            DELETE FROM outcomes AS o
            USING failed
            WHERE o.queue_id = failed.queue_id AND o.id = failed.id AND o.status = 'ERROR'
            RETURNING o.*
        ),
        history AS (
            INSERT INTO attempts (queue_id, attempt, id, lease, started_at, finished_at, ending, worker, error, logs)
            SELECT queue_id, attempt, id, lease, started_at, finished_at, ending, worker, error, logs
            FROM reopened
        ),
        cleared AS (
            -- The queue's messages may have been unique before.
            UPDATE messages AS m
            SET replaced_by = NULL
            FROM reopened AS r
            WHERE m.queue_id = r.queue_id AND m.id = r.id AND m.replaced_by IS NOT NULL
        )
        INSERT INTO dispatch (lane, rank, item)
        SELECT m.queue_id, m.rank, m.id
        FROM reopened
        JOIN messages AS m ON m.queue_id = reopened.queue_id AND m.id = reopened.id
        ORDER BY m.id
        RETURNING item AS id, rank, NULL::uuid AS held_by
        "#,
        queue_id,
        one,
        filter.created_after,
        filter.created_before,
        limit,
        after,
    )
    .fetch_all(db)
    .await
}

/// As [`retry`], one after the other: each takes its value again, unless another message holds that which has not ended.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`) when another transaction is taking a value of theirs.
pub async fn retry_unique(
    db: impl PgExecutor<'_>,
    queue_id: i32,
    one: Option<Uuid>,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Again>> {
    sqlx::query_as!(
        Again,
        r#"
        WITH failed AS MATERIALIZED (
            SELECT queue_id, id
            FROM outcomes
            WHERE queue_id = $1
                AND status = 'ERROR'
                AND ($2::uuid IS NULL OR id = $2)
                AND id >= coalesce(uuid_v7_floor($3), '00000000-0000-0000-0000-000000000000'::uuid)
                AND id < coalesce(uuid_v7_floor($4), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
                AND id > coalesce($6, '00000000-0000-0000-0000-000000000000'::uuid)
            ORDER BY id
            LIMIT $5
            FOR UPDATE SKIP LOCKED
        )
        SELECT failed.id AS "id!", done.rank AS "rank!", done.held_by
        FROM failed
        CROSS JOIN LATERAL run_again(failed.queue_id, failed.id) AS done
        WHERE done.rank IS NOT NULL
        "#,
        queue_id,
        one,
        filter.created_after,
        filter.created_before,
        limit,
        after,
    )
    .fetch_all(db)
    .await
}

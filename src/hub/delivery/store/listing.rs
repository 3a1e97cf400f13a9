//! The SQL of deliveries as people see them.

use super::returned;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A delivery with its status.
#[derive(Debug)]
pub struct Row {
    /// The delivery.
    pub id: Uuid,
    /// Its message.
    pub message_id: Uuid,
    /// The message's key; null once the message is gone.
    pub message: Option<String>,
    /// The mapping's name.
    pub mapping: String,
    /// The endpoint's name; null once it was deleted.
    pub endpoint: Option<String>,
    /// PENDING, INPROGRESS, COMPLETE, ERROR or SKIPPED.
    pub status: String,
    /// Whether it was answered with `notification:error`.
    pub business_error: bool,
    /// How many attempts have ended.
    pub attempts: i32,
    /// When it is tried again, while it waits for that.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When somebody decided that it is not wanted any more.
    pub archived_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, or why it is parked or skipped.
    pub last_error: Option<String>,
    /// Which rule parked it.
    pub parked_by: Option<String>,
}

/// One delivery.
pub async fn get(db: impl PgExecutor<'_>, store_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            d.id AS "id!", d.message_id AS "message_id!", msg.message AS "message?", m.name AS mapping,
            e.name AS "endpoint?", d.status AS "status!", d.business_error AS "business_error!",
            d.attempts AS "attempts!", d.next_attempt_at, d.finished_at, d.archived_at, d.last_error, d.parked_by
        FROM delivery_states AS d
        JOIN mappings AS m ON m.id = d.mapping_id
        LEFT JOIN endpoints AS e ON e.id = m.endpoint_id
        LEFT JOIN hub_messages AS msg ON msg.store_id = d.store_id AND msg.id = d.message_id
        WHERE d.id = $2 AND d.store_id = $1
        "#,
        store_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The deliveries of a message, in their order.
pub async fn of_message(db: impl PgExecutor<'_>, store_id: i32, message: Uuid) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            d.id AS "id!", d.message_id AS "message_id!", NULL::text AS message, m.name AS mapping,
            e.name AS "endpoint?", d.status AS "status!", d.business_error AS "business_error!",
            d.attempts AS "attempts!", d.next_attempt_at, d.finished_at, d.archived_at, d.last_error, d.parked_by
        FROM delivery_states AS d
        JOIN mappings AS m ON m.id = d.mapping_id
        LEFT JOIN endpoints AS e ON e.id = m.endpoint_id
        WHERE d.message_id = $2 AND d.store_id = $1
        ORDER BY d.id
        "#,
        store_id,
        message,
    )
    .fetch_all(db)
    .await
}

/// These deliveries, newest first.
pub(super) async fn rows(db: impl PgExecutor<'_>, store_id: i32, ids: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        WITH leased AS MATERIALIZED (
            SELECT i.item
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            WHERE l.lane = ANY (ARRAY(SELECT lane FROM delivery_lanes WHERE store_id = $1))
                AND l.holder IS NULL AND i.item = ANY ($2)
        )
        SELECT
            d.id AS "id!", d.message_id AS "message_id!", msg.message AS "message?", m.name AS mapping,
            e.name AS "endpoint?",
            CASE
                WHEN d.status = 'PENDING' AND d.id IN (SELECT item FROM leased) THEN 'INPROGRESS'
                ELSE d.status::text
            END AS "status!",
            d.business_error AS "business_error!", d.attempts AS "attempts!", d.next_attempt_at, d.finished_at,
            d.archived_at, d.last_error, d.parked_by
        FROM unnest($2::uuid[]) AS c (id)
        CROSS JOIN LATERAL (
            SELECT
                id, store_id, mapping_id, message_id, status, business_error, attempts, next_attempt_at, finished_at,
                archived_at, last_error, parked_by
            FROM deliveries WHERE id = c.id LIMIT 1
        ) AS d
        JOIN mappings AS m ON m.id = d.mapping_id
        LEFT JOIN endpoints AS e ON e.id = m.endpoint_id
        LEFT JOIN LATERAL (
            SELECT message FROM hub_messages WHERE store_id = $1 AND id = d.message_id LIMIT 1
        ) AS msg ON true
        WHERE d.store_id = $1
        ORDER BY d.id DESC
        "#,
        store_id,
        ids,
    )
    .fetch_all(db)
    .await
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: i32,
    /// delivered, failed or deferred.
    pub verdict: String,
    /// The HTTP status of the answer.
    pub status_code: Option<i16>,
    /// When it was claimed.
    pub started_at: DateTime<Utc>,
    /// When its end was written.
    pub finished_at: DateTime<Utc>,
    /// From the request to the end of the answer, in milliseconds.
    pub duration_ms: f64,
    /// Who was asked; null once it was deleted.
    pub endpoint: Option<String>,
    /// Why it failed, in one word.
    pub cause: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub body: Option<String>,
}

/// All ended attempts of a delivery, oldest first; none when the store has no such delivery.
pub async fn attempts(db: impl PgExecutor<'_>, store_id: i32, id: Uuid) -> sqlx::Result<Vec<Attempt>> {
    sqlx::query_as!(
        Attempt,
        r#"
        SELECT
            a.number, a.verdict::text AS "verdict!", a.status_code, a.started_at, a.finished_at,
            (extract(epoch FROM a.duration) * 1000)::float8 AS "duration_ms!", e.name AS "endpoint?",
            a.cause, a.error, a.body
        FROM delivery_attempts AS a
        LEFT JOIN endpoints AS e ON e.id = a.endpoint_id
        WHERE a.id = $2 AND EXISTS (SELECT FROM deliveries AS d WHERE d.id = $2 AND d.store_id = $1)
        ORDER BY a.number
        "#,
        store_id,
        id,
    )
    .fetch_all(db)
    .await
}

/// Where a delivery stands, for who wants to change that.
#[derive(Debug)]
pub struct Standing {
    /// Its store.
    pub store_id: i32,
    /// PENDING, COMPLETE, ERROR or SKIPPED.
    pub status: String,
    /// Its mapping.
    pub mapping_id: i32,
    /// The line it belongs to.
    pub line: Option<Vec<u8>>,
    /// Whether its mapping was deleted.
    pub is_orphan: bool,
}

/// Locks a delivery, and its mapping before it as it is: the order of locks.
pub async fn lock(tx: &mut PgConnection, store_id: i32, id: Uuid) -> sqlx::Result<Option<Standing>> {
    let mappings = returned::mappings_of(&mut *tx, &[id]).await?;
    returned::lock_mappings(&mut *tx, &mappings).await?;
    sqlx::query_as!(
        Standing,
        r#"
        SELECT
            d.store_id, d.status::text AS "status!", d.mapping_id, d.line, m.deleted_at IS NOT NULL AS "is_orphan!"
        FROM deliveries AS d
        JOIN mappings AS m ON m.id = d.mapping_id
        WHERE d.id = $2 AND d.store_id = $1
        FOR UPDATE OF d
        "#,
        store_id,
        id,
    )
    .fetch_optional(tx)
    .await
}

/// Whether an attempt of a delivery runs.
pub async fn is_under_way(tx: &mut PgConnection, store_id: i32, id: Uuid) -> sqlx::Result<bool> {
    // A delivery is never held from outside: what remote workers hold need not be read, nor what others do.
    let leased = sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT FROM leases
            WHERE lane = ANY (ARRAY(SELECT lane FROM delivery_lanes WHERE store_id = $1))
                AND holder IS NULL AND $2 = ANY (items)
        ) AS "leased!"
        "#,
        store_id,
        id,
    );
    leased.fetch_one(tx).await
}

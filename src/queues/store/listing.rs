//! The SQL of listings: pages of messages by status, newest first.
//!
//! No page reads more than a bounded number of rows, however many messages there are. Each status is asked from where
//! it is few: those of one key from the index of keys, ERROR from its index, INPROGRESS from the leases, PENDING from what waits. Where there is no such place
//! (COMPLETE, and a PENDING of which a lane is full), messages are looked through from the newest on, and no more
//! than [`WALK`] of them: such a page may end before it is full, and says where to go on.
//!
//! A page is two statements, ids and then their messages, which must see one moment
//! (`super::messages::one_moment`).

use super::messages::Row;
use crate::db;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// The most rows that are looked through for one page.
pub const WALK: i64 = 2500;

/// What a page is made of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// One of the four words, or all of them.
    pub status: Option<&'a str>,
    /// Their own key, or any and none.
    pub key: Option<&'a str>,
    /// The first id that may be on it.
    pub from: Uuid,
    /// The first id that may not any more.
    pub to: Uuid,
    /// The most messages on it.
    pub limit: i64,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The messages, newest first.
    pub rows: Vec<Row>,
    /// What was looked through ended here, before the page was full.
    pub stopped_at: Option<Uuid>,
}

/// A page of messages, newest first.
pub async fn page(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Page> {
    db::plan_by_rows(&mut *tx).await?;
    if let Some(key) = wanted.key {
        let (ids, stopped_at) = named(&mut *tx, queue_id, key, wanted).await?;
        return Ok(Page { rows: rows(tx, queue_id, &ids).await?, stopped_at });
    }
    let (ids, stopped_at) = match wanted.status {
        None => (all(tx, queue_id, wanted).await?, None),
        Some("ERROR") => (failed(tx, queue_id, wanted).await?, None),
        Some("INPROGRESS") => (running(tx, queue_id, wanted).await?, None),
        Some("PENDING") if is_short(tx, queue_id).await? => waiting(tx, queue_id, wanted).await?,
        Some(status) => {
            let ids = match status {
                "PENDING" => unfinished(tx, queue_id, wanted).await?,
                _ => complete(tx, queue_id, wanted).await?,
            };
            let full = i64::try_from(ids.len()).unwrap_or(i64::MAX) >= wanted.limit;
            let end = if full { None } else { end_of_walk(tx, queue_id, status, wanted).await? };
            (ids, end)
        }
    };
    Ok(Page { rows: rows(tx, queue_id, &ids).await?, stopped_at })
}

/// Those that have this key: in its index.
async fn named(
    tx: &mut PgConnection,
    queue_id: i32,
    key: &str,
    wanted: &Wanted<'_>,
) -> sqlx::Result<(Vec<Uuid>, Option<Uuid>)> {
    let row = sqlx::query!(
        r#"
        WITH leased AS MATERIALIZED (
            SELECT i.item, l.id AS lease
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            WHERE l.lane = $1 AND $6::text IS NOT NULL
        ),
        named AS MATERIALIZED (
            SELECT id
            FROM messages
            WHERE queue_id = $1 AND key = $2 AND id >= $3 AND id < $4
            ORDER BY id DESC
            LIMIT CASE WHEN $6::text IS NULL THEN $5::bigint ELSE $7::bigint END
        )
        SELECT
            ARRAY(
                SELECT named.id
                FROM named
                LEFT JOIN LATERAL (SELECT status FROM outcomes WHERE queue_id = $1 AND id = named.id LIMIT 1) AS o ON true
                WHERE $6::text IS NULL OR $6 = CASE
                    WHEN o.status IS NOT NULL THEN o.status::text
                    WHEN EXISTS (
                        SELECT FROM leased
                        WHERE leased.item = named.id AND NOT EXISTS (
                            SELECT FROM attempts AS a WHERE a.queue_id = $1 AND a.id = named.id AND a.lease = leased.lease
                        )
                    ) THEN 'INPROGRESS'
                    ELSE 'PENDING'
                END
                ORDER BY named.id DESC
                LIMIT $5::bigint
            ) AS "ids!",
            (SELECT id FROM named ORDER BY id DESC OFFSET $7::bigint - 1) AS end_of_walk
        "#,
        queue_id,
        key,
        wanted.from,
        wanted.to,
        wanted.limit,
        wanted.status,
        WALK,
    )
    .fetch_one(tx)
    .await?;
    let is_full = i64::try_from(row.ids.len()).unwrap_or(i64::MAX) >= wanted.limit;
    Ok((row.ids, row.end_of_walk.filter(|_| !is_full)))
}

async fn all(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM messages WHERE queue_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4",
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
    )
    .fetch_all(tx)
    .await
}

async fn failed(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT id
        FROM outcomes
        WHERE queue_id = $1 AND status = 'ERROR' AND id >= $2 AND id < $3
        ORDER BY id DESC
        LIMIT $4
        "#,
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
    )
    .fetch_all(tx)
    .await
}

async fn running(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT i.item AS "id!"
        FROM leases AS l
        CROSS JOIN LATERAL unnest(l.items) AS i (item)
        CROSS JOIN LATERAL (SELECT FROM messages WHERE queue_id = $1 AND id = i.item LIMIT 1) AS there
        LEFT JOIN LATERAL (SELECT true AS over FROM outcomes WHERE queue_id = $1 AND id = i.item LIMIT 1) AS o ON true
        LEFT JOIN LATERAL (
            SELECT true AS past FROM attempts WHERE queue_id = $1 AND id = i.item AND lease = l.id LIMIT 1
        ) AS a ON true
        WHERE l.lane = $1 AND i.item >= $2 AND i.item < $3 AND over IS NULL AND past IS NULL
        ORDER BY i.item DESC
        LIMIT $4
        "#,
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
    )
    .fetch_all(tx)
    .await
}

/// Whether so few are ready that all of them may be sorted.
async fn is_short(tx: &mut PgConnection, queue_id: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (SELECT FROM dispatch WHERE lane = $1 OFFSET $2) AS "short!""#,
        queue_id,
        WALK,
    )
    .fetch_one(tx)
    .await
}

/// PENDING of a lane in which few are ready: those, and what waits for a time, of which there may be many.
async fn waiting(
    tx: &mut PgConnection,
    queue_id: i32,
    wanted: &Wanted<'_>,
) -> sqlx::Result<(Vec<Uuid>, Option<Uuid>)> {
    let row = sqlx::query!(
        r#"
        WITH later AS MATERIALIZED (
            SELECT item, lane
            FROM scheduled
            WHERE item >= $2 AND item < $3
            ORDER BY item DESC
            LIMIT $5
        ),
        stop AS (
            SELECT item AS at FROM later ORDER BY item DESC OFFSET $5 - 1
        ),
        waiting AS (
            SELECT item
            FROM (
                SELECT item FROM dispatch WHERE lane = $1 AND item >= $2 AND item < $3
                UNION
                SELECT item FROM later WHERE lane = $1
            ) AS w
            WHERE item >= coalesce((SELECT at FROM stop), '00000000-0000-0000-0000-000000000000')
            ORDER BY item DESC
        )
        SELECT
            ARRAY(
                SELECT w.item
                FROM waiting AS w
                CROSS JOIN LATERAL (SELECT FROM messages WHERE queue_id = $1 AND id = w.item LIMIT 1) AS there
                ORDER BY w.item DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT at FROM stop) AS stopped_at
        "#,
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
        WALK,
    )
    .fetch_one(tx)
    .await?;
    Ok((row.ids, row.stopped_at))
}

/// PENDING of a lane that is full: among the messages.
async fn unfinished(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        WITH leased AS MATERIALIZED (
            SELECT i.item, l.id AS lease FROM leases AS l CROSS JOIN LATERAL unnest(l.items) AS i (item) WHERE l.lane = $1
        )
        SELECT m.id
        FROM (
            SELECT id
            FROM messages
            WHERE queue_id = $1 AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $5
        ) AS m
        LEFT JOIN LATERAL (SELECT true AS over FROM outcomes WHERE queue_id = $1 AND id = m.id LIMIT 1) AS o ON true
        WHERE over IS NULL AND NOT EXISTS (
            SELECT
            FROM leased
            LEFT JOIN LATERAL (
                SELECT true AS past FROM attempts WHERE queue_id = $1 AND id = m.id AND lease = leased.lease LIMIT 1
            ) AS a ON true
            WHERE leased.item = m.id AND past IS NULL
        )
        ORDER BY m.id DESC
        LIMIT $4
        "#,
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
        WALK,
    )
    .fetch_all(tx)
    .await
}

async fn complete(tx: &mut PgConnection, queue_id: i32, wanted: &Wanted<'_>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT id
        FROM (
            SELECT id, status
            FROM outcomes
            WHERE queue_id = $1 AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $5
        ) AS o
        WHERE status = 'COMPLETE'
        ORDER BY id DESC
        LIMIT $4
        "#,
        queue_id,
        wanted.from,
        wanted.to,
        wanted.limit,
        WALK,
    )
    .fetch_all(tx)
    .await
}

/// The last of the rows that are looked through, if there may be more.
async fn end_of_walk(
    tx: &mut PgConnection,
    queue_id: i32,
    status: &str,
    wanted: &Wanted<'_>,
) -> sqlx::Result<Option<Uuid>> {
    if status == "PENDING" {
        return sqlx::query_scalar!(
            "SELECT id FROM messages WHERE queue_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC OFFSET $4 LIMIT 1",
            queue_id,
            wanted.from,
            wanted.to,
            WALK - 1,
        )
        .fetch_optional(tx)
        .await;
    }
    sqlx::query_scalar!(
        "SELECT id FROM outcomes WHERE queue_id = $1 AND id >= $2 AND id < $3 ORDER BY id DESC OFFSET $4 LIMIT 1",
        queue_id,
        wanted.from,
        wanted.to,
        WALK - 1,
    )
    .fetch_optional(tx)
    .await
}

/// These messages, newest first.
async fn rows(tx: &mut PgConnection, queue_id: i32, ids: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        WITH leased AS MATERIALIZED (
            SELECT i.item, l.id AS lease
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            WHERE l.lane = $1 AND i.item = ANY ($2)
        )
        SELECT
            m.id AS "id!",
            CASE
                WHEN o.status IS NOT NULL THEN o.status::text
                WHEN EXISTS (
                    -- As in the view: one of a batch that waits for another attempt is PENDING.
                    SELECT FROM leased
                    WHERE leased.item = m.id AND NOT EXISTS (
                        SELECT FROM attempts AS a WHERE a.queue_id = $1 AND a.id = m.id AND a.lease = leased.lease
                    )
                ) THEN 'INPROGRESS'
                ELSE 'PENDING'
            END AS "status!",
            m.request AS "request!: Json<Box<RawValue>>",
            o.result AS "result: Json<Box<RawValue>>", o.error AS "error: Json<Box<RawValue>>", m.key
        FROM unnest($2::uuid[]) AS c (id)
        CROSS JOIN LATERAL (SELECT id, request, key FROM messages WHERE queue_id = $1 AND id = c.id LIMIT 1) AS m
        LEFT JOIN LATERAL (
            SELECT status, result, error FROM outcomes WHERE queue_id = $1 AND id = c.id LIMIT 1
        ) AS o ON true
        ORDER BY m.id DESC
        "#,
        queue_id,
        ids,
    )
    .fetch_all(tx)
    .await
}

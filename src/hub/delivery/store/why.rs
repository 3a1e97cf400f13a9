//! The SQL of why a delivery is not running: what the tables of the hub and of its lanes know.

use crate::worker::store::why::{LOOKED_AT, Taken, TakenBy};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A delivery, as far as it matters to whether it runs, with its mapping and its endpoint.
#[derive(Debug, Clone)]
pub struct Row {
    /// PENDING, COMPLETE, ERROR or SKIPPED.
    pub status: String,
    /// Why the last attempt failed, or why it is parked.
    pub last_error: Option<String>,
    /// Which rule parked it.
    pub parked_by: Option<String>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When somebody decided that it is not wanted any more.
    pub archived_at: Option<DateTime<Utc>>,
    /// Whether the endpoint said where to ask on.
    pub continues: bool,
    /// The claim that last gave it back without an attempt.
    pub returned_by: Option<Uuid>,
    /// Whether it is held with its mapping.
    pub is_held_back: bool,
    /// The mapping.
    pub mapping_id: i32,
    /// Its name.
    pub mapping: String,
    /// Whether the mapping is switched on.
    pub enabled: bool,
    /// When the mapping was last put.
    pub mapping_put_at: DateTime<Utc>,
    /// The endpoint's lane.
    pub lane: i32,
    /// The endpoint's name; `None` once it was deleted.
    pub endpoint: Option<String>,
    /// When the endpoint was last put.
    pub endpoint_put_at: Option<DateTime<Utc>>,
    /// When its failures switched the endpoint off.
    pub off_at: Option<DateTime<Utc>>,
    /// Then: how many attempts had failed in a row.
    pub off_failures: Option<i32>,
    /// Then: since when.
    pub off_since: Option<DateTime<Utc>>,
    /// Then: why the last of them failed.
    pub off_error: Option<String>,
    /// Which key the endpoint's secrets are sealed with.
    pub key_id: Option<String>,
    /// The failures in a row that the endpoint's circuit counts.
    pub failures: i32,
    /// Until when that circuit is open.
    pub open_until: Option<DateTime<Utc>>,
    /// When its rate limit is used up to.
    pub rate_due_at: Option<DateTime<Utc>>,
}

/// A delivery of a store.
pub async fn row(db: impl PgExecutor<'_>, store_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            d.status::text AS "status!", d.last_error, d.parked_by, d.finished_at, d.archived_at,
            d.continue_url IS NOT NULL AS "continues!", d.returned_by, h.delivery_id IS NOT NULL AS "is_held_back!",
            m.id AS mapping_id, m.name AS mapping, m.enabled, m.updated_at AS mapping_put_at, m.endpoint_id AS lane,
            e.name AS "endpoint?", e.updated_at AS "endpoint_put_at?",
            e.disabled_at AS "off_at?", f.failures AS "off_failures?", f.since AS "off_since?",
            left(f.last_error, 500) AS off_error,
            CASE WHEN coalesce(e.token, e.secrets, e.wire_secrets) IS NOT NULL THEN e.key_id END AS key_id,
            coalesce(c.failures, 0) AS "failures!",
            c.open_until, r.due_at AS "rate_due_at?"
        FROM deliveries AS d
        JOIN mappings AS m ON m.id = d.mapping_id
        LEFT JOIN endpoints AS e ON e.id = m.endpoint_id
        LEFT JOIN endpoint_failures AS f ON f.lane = e.id AND e.disabled_at IS NOT NULL
        LEFT JOIN circuits AS c ON c.lane = m.endpoint_id
        LEFT JOIN rates AS r ON r.lane = m.endpoint_id
        LEFT JOIN held_deliveries AS h ON h.delivery_id = d.id
        WHERE d.id = $2 AND d.store_id = $1
        "#,
        store_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The passwords that a mapping is sent, of those with these names and those that its answers set: which key each is sealed
/// with, and its name.
pub async fn passwords(
    db: impl PgExecutor<'_>,
    (store_id, mapping_id): (i32, i32),
    names: &[String],
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        r#"
        SELECT p.key_id AS "key_id!", p.name
        FROM (
            SELECT unnest($3::text[]) AS name
            UNION
            SELECT name FROM learned_parameters WHERE mapping_id = $2
        ) AS sent
        JOIN parameters AS p ON p.store_id = $1 AND p.name = sent.name
        WHERE p.sealed IS NOT NULL
        LIMIT $4
        "#,
        store_id,
        mapping_id,
        names,
        LOOKED_AT,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key_id, row.name)).collect())
}

/// The lanes in which deliveries of a store may be held.
pub async fn lanes(db: impl PgExecutor<'_>, store_id: i32) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(r#"SELECT lane AS "lane!" FROM delivery_lanes WHERE store_id = $1"#, store_id)
        .fetch_all(db)
        .await
}

/// Of these claims of a delivery, those whose attempts have ended.
pub async fn ended(db: impl PgExecutor<'_>, id: Uuid, leases: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("SELECT lease FROM delivery_attempts WHERE id = $1 AND lease = ANY ($2)", id, leases)
        .fetch_all(db)
        .await
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub struct Last {
    /// Its number.
    pub number: i32,
    /// delivered, failed, deferred, returned or lost.
    pub verdict: String,
    /// Why it failed, in one word.
    pub cause: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The attempt of a delivery that ended last.
pub async fn last_attempt(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Last>> {
    sqlx::query_as!(
        Last,
        r#"
        SELECT number, verdict::text AS "verdict!", cause, left(error, 500) AS error
        FROM delivery_attempts
        WHERE id = $1
        ORDER BY number DESC
        LIMIT 1
        "#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The place of a delivery in its line.
#[derive(Debug, Clone)]
pub struct InLine {
    /// The delivery that may run.
    pub head: Uuid,
    /// How many are before it, the head included.
    pub before: i64,
}

/// The place of a delivery that waits in a line.
pub async fn in_line(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<InLine>> {
    sqlx::query_as!(
        InLine,
        r#"
        SELECT
            l.head,
            1 + (
                SELECT count(*)
                FROM (
                    SELECT FROM line_waits AS b
                    WHERE b.series = w.series AND b.line = w.line AND b.seq < w.seq
                    LIMIT $2
                ) AS before
            ) AS "before!"
        FROM line_waits AS w
        JOIN lines AS l ON l.series = w.series AND l.line = w.line
        WHERE w.item = $1
        "#,
        id,
        LOOKED_AT,
    )
    .fetch_optional(db)
    .await
}

/// The circuit of a service, when it is not closed.
#[derive(Debug, Clone)]
pub struct Service {
    /// The failed attempts that opened it.
    pub failures: i32,
    /// Until when it is open.
    pub open_until: DateTime<Utc>,
    /// Since when a delivery tries whether it is back, while one does.
    pub probed_at: Option<DateTime<Utc>>,
    /// That delivery.
    pub probe: Option<Uuid>,
}

/// The circuit of a service of an endpoint; `None` when it is closed.
pub async fn service(db: impl PgExecutor<'_>, lane: i32, service: &str) -> sqlx::Result<Option<Service>> {
    sqlx::query_as!(
        Service,
        r#"
        SELECT
            p.failures, p.open_until, CASE WHEN l.id IS NOT NULL THEN p.probed_at END AS probed_at,
            CASE WHEN cardinality(l.items) = 1 THEN l.items[1] END AS probe
        FROM circuit_parts AS p
        LEFT JOIN leases AS l ON l.id = p.probe
        WHERE p.lane = $1 AND p.part = $2
        "#,
        lane,
        service,
    )
    .fetch_optional(db)
    .await
}

/// What runs of an endpoint, at most `LOOKED_AT`. What has ended of a lease of many does not count.
pub async fn taken(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<Taken> {
    let rows = sqlx::query!(
        r#"
        WITH running AS MATERIALIZED (
            SELECT i.item, l.claimed_at, l.worker, w.name AS holder
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            LEFT JOIN workers AS w ON w.id = l.worker
            WHERE l.lane = $1 AND l.holder IS NULL
                AND NOT EXISTS (
                    SELECT FROM delivery_attempts AS a WHERE a.id = i.item AND a.lease = l.id LIMIT 1
                )
                AND NOT EXISTS (
                    SELECT FROM deliveries AS d WHERE d.id = i.item AND d.returned_by = l.id LIMIT 1
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
        lane,
        LOOKED_AT,
    )
    .fetch_all(db)
    .await?;
    let by = rows
        .into_iter()
        .map(|row| TakenBy::new(row.worker, row.holder.as_deref(), row.count, row.items, row.since));
    Ok(Taken::of(by.collect()))
}

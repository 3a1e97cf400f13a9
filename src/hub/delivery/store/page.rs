//! The SQL of pages of deliveries: by status, mapping and endpoint, newest first.
//!
//! Each status is asked from where it is few: ERROR and SKIPPED from their indexes, INPROGRESS from the leases, PENDING
//! from where deliveries wait. The rest is looked through (`crate::hub::listing::page`). A page is several statements, which must
//! see one moment (`crate::hub::listing::page::one_moment`).

use super::listing::{Row, rows};
use crate::db;
use crate::hub::listing::page::{Page, Span, WALK};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// One of the five words.
    pub status: Option<String>,
    /// The name of a mapping.
    pub mapping: Option<String>,
    /// The name of an endpoint.
    pub endpoint: Option<String>,
}

/// What was found: ids, newest first, and where it stopped before there were enough.
type Found = (Vec<Uuid>, Option<Uuid>);

/// A page of deliveries, newest first.
pub async fn page(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    span: Span,
) -> sqlx::Result<Page<Row>> {
    db::plan_by_rows(&mut *tx).await?;
    let mappings = mappings(&mut *tx, store_id, filter).await?;
    let (ids, stopped_at) = match (filter.status.as_deref(), mappings.as_deref()) {
        (Some("ERROR"), None) => (parked(&mut *tx, store_id, span).await?, None),
        (Some("ERROR"), Some(mappings)) => (parked_of(&mut *tx, mappings, span).await?, None),
        (Some("SKIPPED"), mappings) => skipped(&mut *tx, store_id, mappings, span).await?,
        (Some("INPROGRESS"), mappings) => (running(&mut *tx, store_id, mappings, span).await?, None),
        (Some("PENDING"), mappings) => match waiting(&mut *tx, store_id, mappings, span).await? {
            Some(found) => found,
            None => walk(&mut *tx, store_id, Some("PENDING"), mappings, span).await?,
        },
        (status, mappings) => walk(&mut *tx, store_id, status, mappings, span).await?,
    };
    Ok(Page { rows: rows(tx, store_id, &ids).await?, stopped_at })
}

/// The mappings that the filter names, those that were deleted among them; `None` when it names none.
async fn mappings(tx: &mut PgConnection, store_id: i32, filter: &Filter) -> sqlx::Result<Option<Vec<i32>>> {
    if filter.mapping.is_none() && filter.endpoint.is_none() {
        return Ok(None);
    }
    let ids = sqlx::query_scalar!(
        r#"
        SELECT m.id
        FROM mappings AS m
        LEFT JOIN endpoints AS e ON e.id = m.endpoint_id
        WHERE m.store_id = $1
            AND ($2::text IS NULL OR m.name = $2)
            AND ($3::text IS NULL OR e.name = $3)
        "#,
        store_id,
        filter.mapping,
        filter.endpoint,
    )
    .fetch_all(tx)
    .await?;
    Ok(Some(ids))
}

async fn parked(tx: &mut PgConnection, store_id: i32, span: Span) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT id FROM deliveries
        WHERE store_id = $1 AND parked AND id >= $2 AND id < $3
        ORDER BY id DESC
        LIMIT $4
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
    )
    .fetch_all(tx)
    .await
}

/// Of each mapping the newest, and of all of them the newest.
async fn parked_of(tx: &mut PgConnection, mappings: &[i32], span: Span) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT d.id
        FROM unnest($1::int[]) AS m (id)
        CROSS JOIN LATERAL (
            SELECT id FROM deliveries
            WHERE mapping_id = m.id AND parked AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $4
        ) AS d
        ORDER BY d.id DESC
        LIMIT $4
        "#,
        mappings,
        span.from,
        span.to,
        span.limit,
    )
    .fetch_all(tx)
    .await
}

async fn skipped(
    tx: &mut PgConnection,
    store_id: i32,
    mappings: Option<&[i32]>,
    span: Span,
) -> sqlx::Result<Found> {
    let ids = sqlx::query_scalar!(
        r#"
        SELECT id
        FROM (
            SELECT id, mapping_id FROM deliveries
            WHERE store_id = $1 AND skipped AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $5
        ) AS d
        WHERE $6::int[] IS NULL OR mapping_id = ANY ($6)
        ORDER BY id DESC
        LIMIT $4
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        WALK,
        mappings,
    )
    .fetch_all(&mut *tx)
    .await?;
    if is_full(&ids, span) {
        return Ok((ids, None));
    }
    let stop = sqlx::query_scalar!(
        r#"
        SELECT id FROM deliveries
        WHERE store_id = $1 AND skipped AND id >= $2 AND id < $3
        ORDER BY id DESC
        OFFSET $4
        LIMIT 1
        "#,
        store_id,
        span.from,
        span.to,
        WALK - 1,
    );
    Ok((ids, stop.fetch_optional(tx).await?))
}

async fn running(
    tx: &mut PgConnection,
    store_id: i32,
    mappings: Option<&[i32]>,
    span: Span,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT d.id
        FROM endpoints AS e
        JOIN leases AS l ON l.lane = e.id
        CROSS JOIN LATERAL unnest(l.items) AS i (item)
        CROSS JOIN LATERAL (
            SELECT id, mapping_id, status FROM deliveries WHERE id = i.item LIMIT 1
        ) AS d
        WHERE e.store_id = $1 AND i.item >= $2 AND i.item < $3 AND d.status = 'PENDING'
            AND ($5::int[] IS NULL OR d.mapping_id = ANY ($5))
        ORDER BY d.id DESC
        LIMIT $4
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        mappings,
    )
    .fetch_all(tx)
    .await
}

/// PENDING from where deliveries wait; `None` when they are too many to be sorted, so that the newest deliveries are
/// the place to look.
async fn waiting(
    tx: &mut PgConnection,
    store_id: i32,
    mappings: Option<&[i32]>,
    span: Span,
) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query!(
        r#"
        WITH ready AS MATERIALIZED (
            SELECT item
            FROM (
                SELECT d.item FROM endpoints AS e JOIN dispatch AS d ON d.lane = e.id WHERE e.store_id = $1
                UNION ALL
                SELECT h.delivery_id FROM mappings AS m JOIN held_deliveries AS h ON h.mapping_id = m.id
                WHERE m.store_id = $1
                UNION ALL
                SELECT w.item FROM mappings AS m JOIN line_waits AS w ON w.series = m.id
                WHERE m.store_id = $1
            ) AS r
            LIMIT $5
        ),
        later AS MATERIALIZED (
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
                SELECT item FROM ready WHERE item >= $2 AND item < $3
                UNION
                SELECT item FROM later WHERE lane IN (SELECT id FROM endpoints WHERE store_id = $1)
            ) AS w
            WHERE item >= coalesce((SELECT at FROM stop), '00000000-0000-0000-0000-000000000000')
            ORDER BY item DESC
        )
        SELECT
            (SELECT count(*) FROM ready) < $5 AS "few!",
            ARRAY(
                SELECT w.item
                FROM waiting AS w
                CROSS JOIN LATERAL (
                    SELECT mapping_id, status FROM deliveries WHERE id = w.item LIMIT 1
                ) AS d
                WHERE d.status = 'PENDING' AND ($6::int[] IS NULL OR d.mapping_id = ANY ($6))
                    AND (SELECT count(*) FROM ready) < $5
                ORDER BY w.item DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT at FROM stop) AS stopped_at
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        WALK,
        mappings,
    )
    .fetch_one(tx)
    .await?;
    Ok(row.few.then_some((row.ids, row.stopped_at)))
}

/// Deliveries of whatever place, from the newest on.
async fn walk(
    tx: &mut PgConnection,
    store_id: i32,
    status: Option<&str>,
    mappings: Option<&[i32]>,
    span: Span,
) -> sqlx::Result<Found> {
    let ids = sqlx::query_scalar!(
        r#"
        WITH leased AS MATERIALIZED (
            SELECT unnest(l.items) AS item FROM endpoints AS e JOIN leases AS l ON l.lane = e.id WHERE e.store_id = $1
        )
        SELECT id
        FROM (
            SELECT id, mapping_id, status FROM deliveries
            WHERE store_id = $1 AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $5
        ) AS d
        WHERE ($6::int[] IS NULL OR mapping_id = ANY ($6))
            AND ($7::text IS NULL OR status = $7::text::delivery_status)
            AND ($7::text IS DISTINCT FROM 'PENDING' OR id NOT IN (SELECT item FROM leased))
        ORDER BY id DESC
        LIMIT $4
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        WALK,
        mappings,
        status,
    )
    .fetch_all(&mut *tx)
    .await?;
    if is_full(&ids, span) || (status.is_none() && mappings.is_none()) {
        return Ok((ids, None));
    }
    let stop = sqlx::query_scalar!(
        r#"
        SELECT id FROM deliveries
        WHERE store_id = $1 AND id >= $2 AND id < $3
        ORDER BY id DESC
        OFFSET $4
        LIMIT 1
        "#,
        store_id,
        span.from,
        span.to,
        WALK - 1,
    );
    Ok((ids, stop.fetch_optional(tx).await?))
}

fn is_full(ids: &[Uuid], span: Span) -> bool {
    i64::try_from(ids.len()).is_ok_and(|count| count >= span.limit)
}

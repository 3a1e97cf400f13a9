//! The SQL of the gauges: how much each store has to deliver, and what does not go out.

use crate::db;
use sqlx::postgres::PgPool;

/// How much one store has to deliver.
#[derive(Debug)]
pub struct Depth {
    /// The store's name.
    pub store: String,
    /// Deliveries that may be claimed now or wait for another attempt, counted up to 100,000 an endpoint.
    pub pending: i64,
    /// Deliveries that are parked and not archived, counted up to 10,000.
    pub parked: i64,
    /// Circuits that are open, of endpoints and of services.
    pub open: i64,
    /// The age of the oldest delivery that may be claimed now and is the next of its endpoint.
    pub oldest_seconds: f64,
}

/// How much each store has to deliver.
///
/// # Errors
/// The database's; SQLSTATE 57014 when it took longer than a second, since somebody waits for it.
pub async fn read(pool: &PgPool) -> sqlx::Result<Vec<Depth>> {
    db::transaction(pool, |tx| {
        Box::pin(async move {
            sqlx::query!("SET LOCAL statement_timeout = '1s'").execute(&mut *tx).await?;
            sqlx::query_as!(
                Depth,
                r#"
                WITH later AS (
                    SELECT lane, count(*) AS items
                    FROM scheduled
                    GROUP BY lane
                ),
                of_endpoint AS (
                    SELECT
                        e.store_id, ready.items + coalesce(later.items, 0) AS pending, head.made_at,
                        (c.open_until IS NOT NULL)::integer
                            + (SELECT count(*) FROM circuit_parts AS p WHERE p.lane = e.id) AS open
                    FROM endpoints AS e
                    LEFT JOIN circuits AS c ON c.lane = e.id
                    CROSS JOIN LATERAL (
                        SELECT count(*) AS items
                        FROM (SELECT FROM dispatch WHERE dispatch.lane = e.id LIMIT 100000) AS waiting
                    ) AS ready
                    LEFT JOIN later ON later.lane = e.id
                    LEFT JOIN LATERAL (
                        SELECT uuid_v7_time(item) AS made_at
                        FROM dispatch
                        WHERE dispatch.lane = e.id
                        ORDER BY rank, seq
                        LIMIT 1
                    ) AS head ON ready.items > 0
                ),
                of_store AS (
                    SELECT
                        store_id, sum(pending)::bigint AS pending, min(made_at) AS made_at,
                        sum(open)::bigint AS open
                    FROM of_endpoint
                    GROUP BY store_id
                )
                SELECT
                    s.name AS store, coalesce(o.pending, 0) AS "pending!", parked.items AS "parked!",
                    coalesce(o.open, 0) AS "open!",
                    coalesce(extract(epoch FROM now() - o.made_at), 0)::float8 AS "oldest_seconds!"
                FROM stores AS s
                LEFT JOIN of_store AS o ON o.store_id = s.id
                CROSS JOIN LATERAL (
                    SELECT count(*) AS items
                    FROM (
                        SELECT
                        FROM deliveries AS d
                        WHERE d.store_id = s.id AND d.parked AND d.archived_at IS NULL
                        LIMIT 10000
                    ) AS parked
                ) AS parked
                "#
            )
            .fetch_all(tx)
            .await
        })
    })
    .await
}

//! The SQL of the gauges: how much waits in each queue.

use crate::db;
use sqlx::postgres::PgPool;

/// How much waits in one queue.
#[derive(Debug)]
pub struct Depth {
    /// The queue.
    pub queue_id: i32,
    /// Messages that may be claimed now.
    pub ready: i64,
    /// Messages that wait for their time.
    pub scheduled: i64,
    /// How long ago the oldest was pushed of those that are next among their equals.
    pub oldest_seconds: f64,
}

/// How much waits in each queue in which anything does.
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
                WITH waiting AS (
                    -- Of all lanes at once: of a lane with millions an index would be several times as slow.
                    SELECT lane, count(*) AS items
                    FROM dispatch
                    GROUP BY lane
                )
                SELECT
                    queues.id AS queue_id, coalesce(ready.items, 0) AS "ready!", coalesce(later.items, 0) AS "scheduled!",
                    coalesce(extract(epoch FROM now() - oldest.pushed_at), 0)::float8 AS "oldest_seconds!"
                FROM queues
                LEFT JOIN waiting AS ready ON ready.lane = queues.id
                LEFT JOIN (
                    SELECT lane, count(*) AS items
                    FROM scheduled
                    GROUP BY lane
                ) AS later ON later.lane = queues.id
                LEFT JOIN LATERAL (
                    -- The first of each rank, one look-up each.
                    WITH RECURSIVE heads AS (
                        (
                            SELECT rank, item
                            FROM dispatch
                            WHERE lane = queues.id
                            ORDER BY rank, seq
                            LIMIT 1
                        )
                        UNION ALL
                        SELECT next.rank, next.item
                        FROM heads
                        CROSS JOIN LATERAL (
                            SELECT d.rank, d.item
                            FROM dispatch AS d
                            WHERE d.lane = queues.id AND d.rank > heads.rank
                            ORDER BY d.rank, d.seq
                            LIMIT 1
                        ) AS next
                    )
                    SELECT min(uuid_v7_time(item)) AS pushed_at
                    FROM (SELECT item FROM heads LIMIT 100) AS heads
                ) AS oldest ON ready.items > 0
                WHERE ready.items > 0 OR later.items > 0
                ORDER BY ready.items DESC NULLS LAST
                "#
            )
            .fetch_all(tx)
            .await
        })
    })
    .await
}

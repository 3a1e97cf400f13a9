//! The SQL of the gauges: how much waits in each queue.

use crate::db;
use sqlx::postgres::PgPool;

/// How much waits in one queue.
#[derive(Debug)]
pub struct Depth {
    /// The queue.
    pub queue_id: i32,
    /// Messages that may be claimed now, counted up to a million.
    pub ready: i64,
    /// Messages that wait for their time.
    pub scheduled: i64,
}

/// How much waits in each queue.
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
                SELECT queues.id AS queue_id, ready.items AS "ready!", coalesce(later.items, 0) AS "scheduled!"
                FROM queues
                CROSS JOIN LATERAL (
                    SELECT count(*) AS items
                    FROM (SELECT FROM dispatch WHERE dispatch.lane = queues.id LIMIT 1000000) AS waiting
                ) AS ready
                LEFT JOIN (
                    SELECT lane, count(*) AS items
                    FROM scheduled
                    GROUP BY lane
                ) AS later ON later.lane = queues.id
                "#
            )
            .fetch_all(tx)
            .await
        })
    })
    .await
}

//! The SQL of the gauges: how many jobs of each kind wait and run.

use crate::db;
use sqlx::postgres::PgPool;

/// How many jobs of one kind wait and run.
#[derive(Debug)]
pub struct Depth {
    /// The kind.
    pub type_id: i32,
    /// Jobs that no worker has taken, counted up to a million.
    pub waiting: i64,
    /// Jobs that a worker has taken and that have not ended.
    pub running: i64,
}

/// How many jobs of each kind wait and run.
///
/// # Errors
/// The database's; SQLSTATE 57014 when it took longer than a second, since somebody waits for it.
pub async fn read(pool: &PgPool) -> sqlx::Result<Vec<Depth>> {
    db::transaction(pool, |tx| {
        Box::pin(async move {
            sqlx::query!("SET LOCAL statement_timeout = '1s'").execute(&mut *tx).await?;
            // One that was cancelled before a worker took it leaves its dispatch row to the next claim; and a
            // job has a deadline when and only when it runs.
            sqlx::query_as!(
                Depth,
                r#"
                SELECT t.id AS type_id, ready.jobs AS "waiting!", coalesce(taken.jobs, 0) AS "running!"
                FROM job_types AS t
                CROSS JOIN LATERAL (
                    SELECT count(*) AS jobs
                    FROM (
                        SELECT
                        FROM dispatch AS d
                        JOIN jobs AS j ON j.item = d.item
                        WHERE d.lane = t.id AND j.started_at IS NULL AND j.completed_at IS NULL
                        LIMIT 1000000
                    ) AS waiting
                ) AS ready
                LEFT JOIN (
                    SELECT type_id, count(*) AS jobs
                    FROM jobs
                    WHERE due_at IS NOT NULL
                    GROUP BY type_id
                ) AS taken ON taken.type_id = t.id
                "#
            )
            .fetch_all(tx)
            .await
        })
    })
    .await
}

//! The SQL of the logs: read on from a place, see how far each log is, forget what is old.

use crate::jobs::room::READ;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;
use std::time::Duration;

/// One message of a job's log.
#[derive(Debug, Clone)]
pub struct Broadcast {
    /// The job.
    pub job_id: i64,
    /// Its place in the log.
    pub seq: i64,
    /// What was said.
    pub message: Json<Box<RawValue>>,
    /// Whether it is the job's last.
    pub is_final: bool,
}

/// What comes after `after` in a job's log and is not older than `retention`, oldest first, at most `limit`
/// messages, and at most [`READ`] bytes of them unless the first alone is larger.
pub async fn after(
    db: impl PgExecutor<'_>,
    job_id: i64,
    after: i64,
    retention: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Broadcast>> {
    #[cfg(feature = "planted-bugs")]
    if crate::planted::has(crate::planted::Bug::IdCursor) {
        return crate::planted::after_by_time(db, job_id, after, limit).await;
    }
    sqlx::query_as!(
        Broadcast,
        r#"
        SELECT
            job_id, seq, message AS "message: Json<Box<RawValue>>", is_final
        FROM (
            SELECT job_id, seq, message, is_final, size, sum(size) OVER (ORDER BY seq) AS together
            FROM broadcasts
            WHERE job_id = $1 AND seq > $2 AND created_at > now() - make_interval(secs => $3)
            ORDER BY seq
            LIMIT $4
        ) AS next
        WHERE together <= $5 OR together = size
        ORDER BY seq
        "#,
        job_id,
        after,
        retention.as_secs_f64(),
        limit,
        i64::from(READ),
    )
    .fetch_all(db)
    .await
}

/// How many bytes these messages have.
pub fn size<'a>(found: impl IntoIterator<Item = &'a Broadcast>) -> usize {
    found.into_iter().map(|broadcast| broadcast.message.0.get().len()).sum()
}

/// The newest message of a job's log, however old it is, unless it is gone.
pub async fn last(db: impl PgExecutor<'_>, job_id: i64) -> sqlx::Result<Option<Broadcast>> {
    sqlx::query_as!(
        Broadcast,
        r#"
        SELECT
            job_id, seq, message AS "message: Json<Box<RawValue>>",
            message ->> 'termination_type' IS NOT NULL AS "is_final!"
        FROM broadcasts
        WHERE job_id = $1
        ORDER BY seq DESC
        LIMIT 1
        "#,
        job_id,
    )
    .fetch_optional(db)
    .await
}

/// The next message of a job after a place; none where nothing is left of what came after it.
pub type Next = (i64, Option<Broadcast>);

/// As [`after`], for many jobs, each from its own place; at most `limit` messages, and bytes, of all together. Of jobs
/// of which there is no room for anything there is nothing.
pub async fn after_each(
    db: impl PgExecutor<'_>,
    places: &[(i64, i64)],
    retention: Duration,
    limit: i64,
) -> sqlx::Result<Vec<Next>> {
    let (jobs, cursors): (Vec<i64>, Vec<i64>) = places.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        WITH next AS (
            SELECT
                p.job_id, b.seq, b.message, b.is_final, coalesce(b.size, 0) AS size,
                sum(b.size) OVER (ORDER BY p.job_id, b.seq) AS together,
                row_number() OVER (ORDER BY p.job_id, b.seq) AS number
            FROM unnest($1::bigint[], $2::bigint[]) AS p (job_id, cursor)
            LEFT JOIN LATERAL (
                SELECT seq, message, is_final, size
                FROM broadcasts
                WHERE job_id = p.job_id AND seq > p.cursor AND created_at > now() - make_interval(secs => $3)
                ORDER BY seq
                LIMIT $4
            ) AS b ON true
        )
        SELECT
            job_id AS "job_id!", seq AS "seq?", message AS "message?: Json<Box<RawValue>>",
            coalesce(is_final, false) AS "is_final!"
        FROM next
        WHERE number <= $4 AND (coalesce(together, 0) <= $5 OR together = size)
        ORDER BY number
        "#,
        &jobs,
        &cursors,
        retention.as_secs_f64(),
        limit,
        i64::from(READ),
    )
    .fetch_all(db)
    .await?;
    let next = rows.into_iter().map(|row| {
        let (job_id, is_final) = (row.job_id, row.is_final);
        let found = row.seq.zip(row.message);
        (job_id, found.map(|(seq, message)| Broadcast { job_id, seq, message, is_final }))
    });
    Ok(next.collect())
}

/// How far a job's log is.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// The number of its newest message.
    pub newest: i64,
    /// Whether the job is finished, so that nothing follows.
    pub finished: bool,
}

/// How far the log of a job is.
pub async fn head(db: impl PgExecutor<'_>, job_id: i64) -> sqlx::Result<Option<Head>> {
    sqlx::query_as!(
        Head,
        r#"SELECT seq AS newest, completed_at IS NOT NULL AS "finished!" FROM jobs WHERE id = $1"#,
        job_id,
    )
    .fetch_optional(db)
    .await
}

/// How far the logs of these jobs are.
pub async fn heads(db: impl PgExecutor<'_>, jobs: &[i64]) -> sqlx::Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!("SELECT id, seq FROM jobs WHERE id = ANY ($1)", jobs).fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.seq)).collect())
}

/// Deletes a bounded number of messages older than `retention`; returns how many.
pub async fn forget(db: impl PgExecutor<'_>, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT job_id, seq
            FROM broadcasts
            WHERE created_at <= now() - make_interval(secs => $1)
            ORDER BY created_at
            LIMIT $2
        )
        DELETE FROM broadcasts AS b
        USING old
        WHERE b.job_id = old.job_id AND b.seq = old.seq
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

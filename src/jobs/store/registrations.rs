//! The SQL of registrations: who follows a job, and up to where each has read.

use super::broadcasts::Broadcast;
use crate::jobs::room::READ;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;
use std::collections::HashSet;
use std::time::Duration;

/// Registers a subject with a key of this hash. It reads what comes from now on; of a finished job, the
/// final message.
pub async fn register(
    db: impl PgExecutor<'_>,
    job_id: i64,
    subject: &str,
    key_hash: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO registrations (job_id, subject, key_hash, cursor)
        SELECT id, $2, $3, CASE WHEN completed_at IS NULL THEN seq ELSE seq - 1 END
        FROM jobs
        WHERE id = $1
        "#,
        job_id,
        subject,
        key_hash,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Registers a job's creator with a key of this hash. It reads the log from its beginning.
pub async fn register_creator(
    db: impl PgExecutor<'_>,
    job_id: i64,
    subject: &str,
    key_hash: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO registrations (job_id, subject, key_hash) VALUES ($1, $2, $3)",
        job_id,
        subject,
        key_hash,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A registration, and how far the job's log is.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The registration.
    pub id: i64,
    /// Whose it is.
    pub subject: String,
    /// The number of the last message that was handed out.
    pub cursor: i64,
    /// The number of the newest message.
    pub newest: i64,
    /// Whether the job is finished, so that nothing follows the newest.
    pub finished: bool,
}

/// The registration with this key, if it is for this job and its time is not over: it ends `retention` after
/// the final message. Reads by two keys and writes nothing.
pub async fn by_key(
    db: impl PgExecutor<'_>,
    type_id: i32,
    job_id: i64,
    key_hash: &[u8],
    retention: Duration,
) -> sqlx::Result<Option<Registration>> {
    sqlx::query_as!(
        Registration,
        r#"
        SELECT r.id, r.subject, r.cursor, j.seq AS newest, j.completed_at IS NOT NULL AS "finished!"
        FROM registrations AS r
        JOIN jobs AS j ON j.id = r.job_id
        WHERE r.key_hash = $1
            AND r.job_id = $2
            AND j.type_id = $3
            AND (j.completed_at IS NULL OR j.completed_at > now() - make_interval(secs => $4))
        "#,
        key_hash,
        job_id,
        type_id,
        retention.as_secs_f64(),
    )
    .fetch_optional(db)
    .await
}

/// Reads what comes after the cursor of a registration, at most `limit` messages and [`READ`] bytes, and moves the
/// cursor, in one statement; where there is nothing, to the newest; none when the cursor is not there any more. Of several who read with one key, one has each
/// message.
///
/// The commit does not wait for the disk: a server that crashes just then hands the messages out again.
pub async fn take_unread(
    db: impl PgExecutor<'_>,
    job_id: i64,
    registration: &Registration,
    retention: Duration,
    limit: i64,
) -> sqlx::Result<Option<Vec<Broadcast>>> {
    let rows = sqlx::query!(
        r#"
        WITH unread AS MATERIALIZED (
            SELECT seq, message, is_final
            FROM (
                SELECT seq, message, is_final, size, sum(size) OVER (ORDER BY seq) AS together
                FROM broadcasts
                WHERE job_id = $1 AND seq > $3 AND created_at > now() - make_interval(secs => $5)
                ORDER BY seq
                LIMIT $6
            ) AS next
            WHERE together <= $7 OR together = size
        ),
        moved AS (
            UPDATE registrations
            SET cursor = coalesce((SELECT max(seq) FROM unread), $4)
            WHERE id = $2 AND cursor = $3
            RETURNING set_config('synchronous_commit', 'off', true)
        )
        SELECT
            unread.seq AS "seq?", unread.message AS "message?: Json<Box<RawValue>>",
            coalesce(unread.is_final, false) AS "is_final!"
        FROM moved
        LEFT JOIN unread ON true
        ORDER BY unread.seq
        "#,
        job_id,
        registration.id,
        registration.cursor,
        registration.newest,
        retention.as_secs_f64(),
        limit,
        i64::from(READ),
    )
    .fetch_all(db)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    // Moved, with nothing to read: all of it is past retention.
    let unread = rows.into_iter().filter_map(|row| {
        Some(Broadcast { job_id, seq: row.seq?, message: row.message?, is_final: row.is_final })
    });
    Ok(Some(unread.collect()))
}

/// The place of a subject in a job's log, for the routes that need no key.
#[derive(Debug, Clone)]
pub struct Place {
    /// The job.
    pub job_id: i64,
    /// Who created it.
    pub owner: String,
    /// The number of the last message that was handed out.
    pub cursor: i64,
    /// The number of the newest message.
    pub newest: i64,
}

/// The place of `subject` in one job's log.
pub async fn place_in_job(
    db: impl PgExecutor<'_>,
    job_id: i64,
    subject: &str,
) -> sqlx::Result<Option<Place>> {
    sqlx::query_as!(
        Place,
        r#"
        SELECT j.id AS job_id, j.owner, coalesce(r.cursor, 0) AS "cursor!", j.seq AS newest
        FROM jobs AS j
        LEFT JOIN registrations AS r ON r.job_id = j.id AND r.subject = $2 AND r.via = 'job'
        WHERE j.id = $1
        "#,
        job_id,
        subject,
    )
    .fetch_optional(db)
    .await
}

/// The places of `subject` in the logs of a cardholder's jobs that run, or ended less than `retention` ago.
pub async fn places_of_cardholder(
    db: impl PgExecutor<'_>,
    cardholder_id: i64,
    subject: &str,
    retention: Duration,
) -> sqlx::Result<Vec<Place>> {
    sqlx::query_as!(
        Place,
        r#"
        SELECT j.id AS job_id, j.owner, coalesce(r.cursor, 0) AS "cursor!", j.seq AS newest
        FROM jobs AS j
        LEFT JOIN registrations AS r ON r.job_id = j.id AND r.subject = $2 AND r.via = 'cardholder'
        WHERE j.cardholder_id = $1
            AND (j.completed_at IS NULL OR j.completed_at > now() - make_interval(secs => $3))
        ORDER BY j.id
        "#,
        cardholder_id,
        subject,
        retention.as_secs_f64(),
    )
    .fetch_all(db)
    .await
}

/// Whether `owner` ever created a job for this cardholder.
pub async fn has_jobs_for(db: impl PgExecutor<'_>, cardholder_id: i64, owner: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM jobs WHERE cardholder_id = $1 AND owner = $2) AS "has!""#,
        cardholder_id,
        owner,
    )
    .fetch_one(db)
    .await
}

/// Moves a subject's places, each (job, from, to); returns the jobs whose place was still where it was read.
pub async fn advance_places(
    db: impl PgExecutor<'_>,
    subject: &str,
    via: &str,
    moves: &[(i64, i64, i64)],
) -> sqlx::Result<HashSet<i64>> {
    let jobs: Vec<i64> = moves.iter().map(|(job, ..)| *job).collect();
    let from: Vec<i64> = moves.iter().map(|(_, from, _)| *from).collect();
    let to: Vec<i64> = moves.iter().map(|(.., to)| *to).collect();
    let read = sqlx::query_scalar!(
        r#"
        WITH moves AS (
            SELECT job_id, from_seq, to_seq
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS m (job_id, from_seq, to_seq)
        ),
        first AS (
            -- Only who read from the beginning may have no row yet.
            INSERT INTO registrations (job_id, subject, via, cursor)
            SELECT job_id, $1, $2, to_seq FROM moves WHERE from_seq = 0 ORDER BY job_id
            ON CONFLICT (job_id, subject, via) WHERE via <> 'key' DO NOTHING
            RETURNING job_id
        ),
        later AS (
            UPDATE registrations AS r
            SET cursor = m.to_seq
            FROM moves AS m
            WHERE r.job_id = m.job_id AND r.subject = $1 AND r.via = $2 AND r.cursor = m.from_seq
            RETURNING r.job_id
        )
        SELECT job_id AS "job_id!" FROM first
        UNION ALL
        SELECT job_id FROM later
        "#,
        subject,
        via,
        &jobs,
        &from,
        &to,
    )
    .fetch_all(db)
    .await?;
    Ok(read.into_iter().collect())
}

/// Deletes a bounded number of registrations of jobs that ended more than `retention` ago; returns how many.
pub async fn forget(db: impl PgExecutor<'_>, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    // From the registrations to their jobs: there are as many as are good for something, while finished jobs
    // are those of a month.
    let gone = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT r.id
            FROM registrations AS r
            WHERE (SELECT completed_at FROM jobs WHERE id = r.job_id) <= now() - make_interval(secs => $1)
            LIMIT $2
        )
        DELETE FROM registrations AS r
        USING old
        WHERE r.id = old.id
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

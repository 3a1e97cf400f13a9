//! The SQL of envelopes: what a job asks, the one answer, its pick-up.

use crate::seal::Sealed;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

/// Asks: the job's deadline moves on by the time that a question waits. An answer to an earlier question
/// that nobody has read is not wanted any more. The job is locked.
pub async fn ask(tx: &mut PgConnection, job_id: i64, kind: &str, content: &RawValue) -> sqlx::Result<Uuid> {
    sqlx::query!(
        r#"
        UPDATE envelopes SET status = 'WITHDRAWN', answer = NULL, key_id = NULL
        WHERE job_id = $1 AND status = 'ANSWERED'
        "#,
        job_id,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!(
        r#"
        WITH asking AS (
            UPDATE jobs
            SET answer_by = now() + credential_timeout, deadline = deadline + credential_timeout
            WHERE id = $1
            RETURNING id, answer_by
        )
        INSERT INTO envelopes (job_id, type, content, deadline)
        SELECT id, $2, $3::text::json, answer_by FROM asking
        RETURNING id
        "#,
        job_id,
        kind,
        content.get(),
    )
    .fetch_one(tx)
    .await
}

/// A question that waits for its answer.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The guid that the answer must name.
    pub id: Uuid,
    /// The job that asks.
    pub job_id: i64,
    /// What it asks for.
    pub kind: String,
    /// What the worker sent with it.
    pub content: Json<Box<RawValue>>,
}

/// The questions of these jobs that can still be answered, oldest first.
pub async fn pending(db: impl PgExecutor<'_>, jobs: &[i64]) -> sqlx::Result<Vec<Pending>> {
    sqlx::query_as!(
        Pending,
        r#"
        SELECT id, job_id, type AS kind, content AS "content: Json<Box<RawValue>>"
        FROM envelopes
        WHERE job_id = ANY ($1) AND status = 'PENDING' AND deadline > now()
        ORDER BY created_at
        "#,
        jobs,
    )
    .fetch_all(db)
    .await
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Open,
    /// It was answered.
    Answered,
    /// Its time is over, or it is not wanted any more.
    Over,
}

/// A question that somebody wants to answer.
#[derive(Debug)]
pub struct Asked {
    /// How far it is.
    pub standing: Standing,
    /// What it asks for.
    pub kind: String,
    /// What the worker sent with it.
    pub content: Json<Box<RawValue>>,
}

/// A question of this job. The job is locked, so it stays as it is.
pub async fn asked(tx: &mut PgConnection, job_id: i64, id: Uuid) -> sqlx::Result<Option<Asked>> {
    let row = sqlx::query!(
        r#"
        SELECT
            type AS kind, content AS "content: Json<Box<RawValue>>", status = 'PENDING' AND deadline > now() AS "open!",
            answered_at IS NOT NULL AS "answered!"
        FROM envelopes
        WHERE id = $1 AND job_id = $2
        "#,
        id,
        job_id,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| {
        let standing = match (row.open, row.answered) {
            (true, _) => Standing::Open,
            (false, true) => Standing::Answered,
            (false, false) => Standing::Over,
        };
        Asked { standing, kind: row.kind, content: row.content }
    }))
}

/// Keeps the answer to an open question; returns how long the question waited, none if it is not open any more.
pub async fn answer(tx: &mut PgConnection, id: Uuid, sealed: &Sealed) -> sqlx::Result<Option<Duration>> {
    let waited = sqlx::query_scalar!(
        r#"
        WITH answered AS (
            UPDATE envelopes
            SET status = 'ANSWERED', answered_at = now(), answer = $2, key_id = $3
            WHERE id = $1 AND status = 'PENDING' AND deadline > now()
            RETURNING job_id, extract(epoch FROM answered_at - created_at)::float8 AS waited
        )
        UPDATE jobs
        SET answer_by = NULL
        FROM answered
        WHERE jobs.id = answered.job_id
        RETURNING answered.waited AS "waited!"
        "#,
        id,
        sealed.bytes,
        sealed.key_id,
    )
    .fetch_optional(tx)
    .await?;
    Ok(waited.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// An answer, as it was kept.
#[derive(Debug)]
pub struct Answer {
    /// The question.
    pub id: Uuid,
    /// What it asked for.
    pub kind: String,
    /// The answer.
    pub sealed: Sealed,
}

/// Takes the answer that waits for the worker, and deletes it. Of several who ask, one gets it.
pub async fn pick_up(db: impl PgExecutor<'_>, job_id: i64) -> sqlx::Result<Option<Answer>> {
    let row = sqlx::query!(
        r#"
        WITH answered AS MATERIALIZED (
            SELECT id, type, answer, key_id
            FROM envelopes
            WHERE job_id = $1 AND status = 'ANSWERED'
            ORDER BY answered_at
            LIMIT 1
            FOR UPDATE
        )
        UPDATE envelopes AS e
        SET status = 'PICKED_UP', answer = NULL, key_id = NULL
        FROM answered
        WHERE e.id = answered.id AND e.status = 'ANSWERED'
        RETURNING answered.id, answered.type AS kind, answered.answer AS "answer!", answered.key_id AS "key_id!"
        "#,
        job_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Answer {
        id: row.id,
        kind: row.kind,
        sealed: Sealed { key_id: row.key_id, bytes: row.answer },
    }))
}

//! The SQL of deadlines: which jobs are overdue, and why.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A job that is overdue.
#[derive(Debug, Clone, Copy)]
pub struct Overdue {
    /// Its number.
    pub id: i64,
    /// Its type.
    pub type_id: i32,
    /// Its name in the engine.
    pub item: Uuid,
}

/// Overdue jobs, the longest overdue first, at most `limit`.
pub async fn overdue(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<Overdue>> {
    sqlx::query_as!(
        Overdue,
        "SELECT id, type_id, item FROM jobs WHERE due_at <= now() ORDER BY due_at LIMIT $1",
        limit,
    )
    .fetch_all(db)
    .await
}

/// How many seconds until the next job is overdue; none when no job has a deadline.
pub async fn next(db: impl PgExecutor<'_>) -> sqlx::Result<Option<f64>> {
    let next = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM min(due_at) - now())::float8 FROM jobs WHERE due_at IS NOT NULL"#
    );
    next.fetch_one(db).await
}

/// Which of a job's deadlines have passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// The grace period after a request to cancel.
    pub cancel: bool,
    /// The time for an answer, and what was asked for.
    pub answer: Option<String>,
    /// The job's own.
    pub deadline: bool,
    /// The request that created the job.
    pub request_id: Option<String>,
    /// The span that created it, as it is stored.
    pub trace: Option<Vec<u8>>,
    /// The claim that runs it.
    pub lease: Option<Uuid>,
    /// When a worker took it.
    pub started_at: Option<DateTime<Utc>>,
}

/// Locks a job and says which of its deadlines have passed; none when it is finished.
pub async fn lock(tx: &mut PgConnection, id: i64) -> sqlx::Result<Option<Passed>> {
    let row = sqlx::query!(
        r#"
        SELECT
            coalesce(cancel_by <= now(), false) AS "cancel!", coalesce(answer_by <= now(), false) AS "answer!",
            coalesce(deadline <= now(), false) AS "deadline!", request_id, trace,
            lease, started_at
        FROM jobs
        WHERE id = $1 AND due_at <= now()
        FOR UPDATE
        "#,
        id,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut answer = None;
    if row.answer {
        let asked =
            sqlx::query_scalar!("SELECT type FROM envelopes WHERE job_id = $1 AND status = 'PENDING'", id);
        answer = asked.fetch_optional(tx).await?;
    }
    Ok(Some(Passed {
        cancel: row.cancel,
        answer,
        deadline: row.deadline,
        request_id: row.request_id,
        trace: row.trace,
        lease: row.lease,
        started_at: row.started_at,
    }))
}

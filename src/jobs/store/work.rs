//! The SQL of workers: take jobs, start one, give back what a lost worker held.

use crate::seal::Sealed;
use crate::traces::Context;
use crate::worker::Claim;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A job that a worker has taken.
#[derive(Debug)]
pub struct Taken {
    /// Its number.
    pub id: i64,
    /// The person it is for.
    pub cardholder_id: i64,
    /// Its name in the engine.
    pub item: Uuid,
    /// What the worker needs to know, if there is anything.
    pub data: Option<Sealed>,
    /// Whether something may lie in its safe.
    pub has_account: bool,
    /// The claim.
    pub lease: Uuid,
    /// The span that created it.
    pub trace: Option<Context>,
}

/// Starts the jobs of these claims: their time runs from here. One that has ended, or that runs without a claim, is
/// left out, and so is one whose row somebody holds.
pub async fn take(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Taken>> {
    let items: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|claim| claim.lease).collect();
    let rows = sqlx::query!(
        r#"
        WITH free AS MATERIALIZED (
            SELECT j.id, c.lease
            FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
            JOIN jobs AS j ON j.item = c.item
            WHERE j.started_at IS NULL AND j.completed_at IS NULL
            FOR UPDATE OF j SKIP LOCKED
        )
        UPDATE jobs AS j
        SET started_at = now(), deadline = now() + j.job_timeout, lease = free.lease
        FROM free
        WHERE j.id = free.id
        RETURNING j.id, j.item, j.cardholder_id, j.data, j.key_id, j.has_account, j.trace, free.lease AS "lease!"
        "#,
        &items,
        &leases,
    )
    .fetch_all(tx)
    .await?;
    let taken = rows.into_iter().map(|row| Taken {
        id: row.id,
        item: row.item,
        cardholder_id: row.cardholder_id,
        data: row.data.zip(row.key_id).map(|(bytes, key_id)| Sealed { key_id, bytes }),
        has_account: row.has_account,
        lease: row.lease,
        trace: row.trace.as_deref().and_then(Context::of_stored),
    });
    Ok(taken.collect())
}

/// Of these claims, those whose jobs wait to be taken: after [`take`], their rows are somebody else's at this moment.
pub async fn waiting(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Uuid>> {
    let items: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|claim| claim.lease).collect();
    sqlx::query_scalar!(
        r#"
        SELECT c.lease AS "lease!"
        FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
        JOIN jobs AS j ON j.item = c.item
        WHERE j.started_at IS NULL AND j.completed_at IS NULL
        "#,
        &items,
        &leases,
    )
    .fetch_all(tx)
    .await
}

/// Undoes [`take`] for claims that nobody received.
pub async fn untake(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<()> {
    let items: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|claim| claim.lease).collect();
    sqlx::query!(
        r#"
        UPDATE jobs AS j
        SET started_at = NULL, deadline = NULL, lease = NULL
        FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
        WHERE j.item = c.item AND j.lease = c.lease
        "#,
        &items,
        &leases,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Starts a job for a worker that did not claim it.
pub async fn start(tx: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE jobs
        SET started_at = now(), deadline = now() + job_timeout
        WHERE id = $1 AND started_at IS NULL AND completed_at IS NULL
        "#,
        id,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A job that runs under a claim.
#[derive(Debug, Clone)]
pub struct Running {
    /// The claim.
    pub lease: Uuid,
    /// The job.
    pub id: i64,
    /// Whether its cancellation was requested.
    pub cancelled: bool,
    /// The request that created it.
    pub request_id: Option<String>,
    /// The span that created it, as it is stored.
    pub trace: Option<Vec<u8>>,
}

/// Of these claims, those whose job still runs under them. The jobs are locked.
pub async fn unfinished(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<Running>> {
    let leases: Vec<Uuid> = claims.iter().map(|claim| claim.lease).collect();
    let items: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
    sqlx::query_as!(
        Running,
        r#"
        SELECT c.lease AS "lease!", j.id, j.cancel_by IS NOT NULL AS "cancelled!", j.request_id, j.trace
        FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
        JOIN jobs AS j ON j.item = c.item AND j.lease = c.lease
        ORDER BY j.id
        FOR UPDATE OF j
        "#,
        &items,
        &leases,
    )
    .fetch_all(tx)
    .await
}

/// Makes a job as if nobody had taken it: what its lost worker asked is withdrawn.
pub async fn reopen(tx: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE envelopes SET status = 'WITHDRAWN', answer = NULL, key_id = NULL
        WHERE job_id = $1 AND status IN ('PENDING', 'ANSWERED')
        "#,
        id,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        r#"
        UPDATE jobs
        SET started_at = NULL, deadline = NULL, answer_by = NULL, cancel_by = NULL, lease = NULL
        WHERE id = $1
        "#,
        id,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that a worker has ended a job, under this claim if it had one, and by which words.
pub async fn sign(
    tx: &mut PgConnection,
    id: i64,
    lease: Option<Uuid>,
    digest: &[u8; 32],
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs SET ended_by = $2, end_digest = $3 WHERE id = $1",
        id,
        lease,
        digest.as_slice()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether a worker has ended a job by these words, under this claim if one is named.
pub async fn has_ended(
    db: impl PgExecutor<'_>,
    type_id: i32,
    id: i64,
    lease: Option<Uuid>,
    digest: &[u8; 32],
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT
            FROM jobs
            WHERE id = $2 AND type_id = $1 AND end_digest = $4 AND ($3::uuid IS NULL OR ended_by = $3)
        ) AS "ended!"
        "#,
        type_id,
        id,
        lease,
        digest.as_slice(),
    )
    .fetch_one(db)
    .await
}

//! The SQL of jobs: create, read, say something about one, have one cancelled.

use super::safes;
use crate::seal::Sealed;
use crate::traces::{Context, Origin};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// A row of `jobs`.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// Its type.
    pub type_id: i32,
    /// Its name in the engine.
    pub item: Uuid,
    /// The subject that created it.
    pub owner: String,
    /// The person it is for.
    pub cardholder_id: i64,
    /// What its owner calls that person, if that was given.
    pub cuid: Option<String>,
    /// Whether its owner has named an account.
    pub has_account: bool,
    /// The merchant site of that account, if it was named.
    pub merchant_site_id: Option<i64>,
    /// The newest status.
    pub status: String,
    /// About how much is done.
    pub percent_complete: i16,
    /// What the worker last said in words.
    pub status_message: Option<String>,
    /// How it ended.
    pub termination_type: Option<String>,
    /// Seconds that a question waits.
    pub credential_timeout: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When a worker took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
    /// Whether it asks something that is not answered yet.
    pub asks: bool,
    /// Whether its cancellation was requested.
    pub cancelled: bool,
    /// The claim that runs it.
    pub lease: Option<Uuid>,
    /// The request that created it.
    pub request_id: Option<String>,
    /// The span that created it, as it is stored.
    pub trace: Option<Vec<u8>>,
}

/// A job to be created.
#[derive(Debug)]
pub struct New {
    /// Its name in the engine.
    pub item: Uuid,
    /// The person it is for; of whom only the name is known, the number comes when it is stored.
    pub cardholder_id: Option<i64>,
    /// What its owner calls that person.
    pub cuid: Option<String>,
    /// The account that its owner has named.
    pub account: Option<Account>,
    /// What the worker needs to know, if there is anything.
    pub data: Option<Sealed>,
    /// How long it may take.
    pub job_timeout: Duration,
    /// How long a question waits.
    pub credential_timeout: Duration,
    /// What it comes of.
    pub origin: Origin,
}

/// An account of a job to be created.
#[derive(Debug)]
pub struct Account {
    /// Its merchant site, if it was named.
    pub merchant_site_id: Option<i64>,
    /// What is for the worker alone, if that was given.
    pub content: Option<Sealed>,
}

/// Creates a job, ready to be claimed, for this person; returns its number.
pub async fn create(
    tx: &mut PgConnection,
    type_id: i32,
    owner: &str,
    cardholder_id: i64,
    new: &New,
) -> sqlx::Result<i64> {
    let account = new.account.as_ref();
    let trace = new.origin.trace.as_ref().map(Context::stored);
    let id = sqlx::query_scalar!(
        r#"
        WITH made AS (
            INSERT INTO jobs (
                type_id, owner, cardholder_id, data, key_id, job_timeout, credential_timeout, item, request_id,
                trace, cuid, has_account, merchant_site_id
            )
            VALUES ($1, $2, $3, $4, $5, make_interval(secs => $6), make_interval(secs => $7), $8, $9, $10, $11, $12, $13)
            RETURNING id, type_id, item
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item) SELECT type_id, 0, item FROM made
        )
        SELECT id AS "id!" FROM made
        "#,
        type_id,
        owner,
        cardholder_id,
        new.data.as_ref().map(|data| data.bytes.as_slice()),
        new.data.as_ref().map(|data| data.key_id.as_str()),
        new.job_timeout.as_secs_f64(),
        new.credential_timeout.as_secs_f64(),
        new.item,
        new.origin.request_id.as_deref(),
        trace.as_deref(),
        new.cuid.as_deref(),
        account.is_some(),
        account.and_then(|account| account.merchant_site_id),
    )
    .fetch_one(&mut *tx)
    .await?;
    if let Some(content) = account.and_then(|account| account.content.as_ref()) {
        safes::put(tx, id, content).await?;
    }
    Ok(id)
}

/// The type of a job.
pub async fn type_of(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!("SELECT type_id FROM jobs WHERE id = $1", id).fetch_optional(db).await
}

/// A job of this type.
pub async fn get(db: impl PgExecutor<'_>, type_id: i32, id: i64) -> sqlx::Result<Option<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        SELECT
            id, type_id, item, owner, cardholder_id, cuid, has_account, merchant_site_id, status, percent_complete,
            status_message,
            termination_type::text, extract(epoch FROM credential_timeout)::bigint AS "credential_timeout!",
            created_at, started_at, completed_at, answer_by IS NOT NULL AS "asks!",
            cancel_by IS NOT NULL AS "cancelled!", lease, request_id, trace
        FROM jobs
        WHERE id = $1 AND type_id = $2
        "#,
        id,
        type_id,
    )
    .fetch_optional(db)
    .await
}

/// Locks a job until the transaction ends, and reads it as it then is: who waits for the lock gets the row that
/// whoever held it has left.
pub async fn lock(tx: &mut PgConnection, type_id: i32, id: i64) -> sqlx::Result<Option<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        SELECT
            id, type_id, item, owner, cardholder_id, cuid, has_account, merchant_site_id, status, percent_complete,
            status_message,
            termination_type::text, extract(epoch FROM credential_timeout)::bigint AS "credential_timeout!",
            created_at, started_at, completed_at, answer_by IS NOT NULL AS "asks!",
            cancel_by IS NOT NULL AS "cancelled!", lease, request_id, trace
        FROM jobs
        WHERE id = $1 AND type_id = $2
        FOR UPDATE
        "#,
        id,
        type_id,
    )
    .fetch_optional(tx)
    .await
}

/// What a listing is narrowed to.
#[derive(Debug, Default)]
pub struct Filter {
    /// The creator.
    pub owner: Option<String>,
    /// These jobs.
    pub ids: Option<Vec<i64>>,
    /// The jobs of these persons.
    pub cardholder_ids: Option<Vec<i64>>,
    /// The jobs in this status.
    pub status: Option<String>,
}

/// Jobs of this type, newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    type_id: i32,
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Job>> {
    sqlx::query_as!(
        Job,
        r#"
        SELECT
            id, type_id, item, owner, cardholder_id, cuid, has_account, merchant_site_id, status, percent_complete,
            status_message,
            termination_type::text, extract(epoch FROM credential_timeout)::bigint AS "credential_timeout!",
            created_at, started_at, completed_at, answer_by IS NOT NULL AS "asks!",
            cancel_by IS NOT NULL AS "cancelled!", lease, request_id, trace
        FROM jobs
        WHERE type_id = $1
            AND ($2::text IS NULL OR owner = $2)
            AND ($3::bigint[] IS NULL OR id = ANY ($3))
            AND ($4::bigint[] IS NULL OR cardholder_id = ANY ($4))
            AND ($5::text IS NULL OR status = $5)
        ORDER BY id DESC
        LIMIT $6
        "#,
        type_id,
        filter.owner.as_deref(),
        filter.ids.as_deref(),
        filter.cardholder_ids.as_deref(),
        filter.status.as_deref(),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Says something about a job that is locked and not finished; returns its number in the job's log. With
/// `termination_type` it ends the job.
pub async fn broadcast(tx: &mut PgConnection, id: i64, status: &serde_json::Value) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT broadcast($1, $2::jsonb) AS "seq!""#, id, status).fetch_one(tx).await
}

/// As [`broadcast`], with members that are passed on as they stand: those of a JSON object, without its braces.
pub async fn broadcast_with(
    tx: &mut PgConnection,
    id: i64,
    status: &serde_json::Value,
    further: Option<&str>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT broadcast($1, $2::jsonb, $3) AS "seq!""#, id, status, further)
        .fetch_one(tx)
        .await
}

/// Deletes a bounded number of jobs that ended more than `retention` ago, with their logs, registrations and
/// questions; returns how many.
pub async fn forget(db: impl PgExecutor<'_>, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT id
            FROM jobs
            WHERE completed_at <= now() - make_interval(secs => $1)
            ORDER BY completed_at
            LIMIT $2
        )
        DELETE FROM jobs
        USING old
        WHERE jobs.id = old.id
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

/// Gives the worker of a running job this long to end it; the first request for it counts.
pub async fn cancel_within(tx: &mut PgConnection, id: i64, grace: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE jobs SET cancel_by = coalesce(cancel_by, now() + make_interval(secs => $2)) WHERE id = $1",
        id,
        grace.as_secs_f64(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes the request to cancel back.
pub async fn do_not_cancel(tx: &mut PgConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query!("UPDATE jobs SET cancel_by = NULL WHERE id = $1", id).execute(tx).await?;
    Ok(())
}

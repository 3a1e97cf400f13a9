//! The SQL of idempotency keys: a request that is sent again creates no second job and says nothing twice.

use crate::http::idempotency;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::time::Duration;

/// The key of a request about jobs.
#[derive(Debug, Clone)]
pub struct Key {
    /// The type of the jobs.
    pub type_id: i32,
    /// Whose request it is.
    pub owner: String,
    /// The key itself.
    pub key: idempotency::Key,
}

/// What is known of a key.
#[derive(Debug)]
pub enum Known {
    /// Nothing: it is the caller's now, to be kept or rolled back.
    Fresh,
    /// It came before.
    Before(Former),
}

/// The request that first came with a key.
#[derive(Debug)]
pub struct Former {
    /// The digest of what it said.
    pub digest: Vec<u8>,
    /// The jobs that it created.
    pub job_ids: Vec<i64>,
    /// What it was answered, where it created none.
    pub answer: Option<Json<Box<RawValue>>>,
}

/// Takes a key, or says what it made. Waits for whoever takes the same key now.
pub async fn take(tx: &mut PgConnection, key: &Key) -> sqlx::Result<Known> {
    loop {
        let taken = sqlx::query!(
            r#"
            INSERT INTO job_idempotency_keys (type_id, owner, key, digest)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT ON CONSTRAINT job_idempotency_keys_pkey DO NOTHING
            "#,
            key.type_id,
            key.owner,
            key.key.key,
            key.key.digest.as_slice(),
        )
        .execute(&mut *tx)
        .await?;
        if taken.rows_affected() > 0 {
            return Ok(Known::Fresh);
        }
        let former = sqlx::query_as!(
            Former,
            r#"
            SELECT digest, job_ids, answer AS "answer: Json<Box<RawValue>>"
            FROM job_idempotency_keys
            WHERE type_id = $1 AND owner = $2 AND key = $3
            "#,
            key.type_id,
            key.owner,
            key.key.key,
        )
        .fetch_optional(&mut *tx)
        .await?;
        // One whose time ended between the two statements is taken after all.
        if let Some(former) = former {
            return Ok(Known::Before(former));
        }
    }
}

/// Keeps what a key made.
pub async fn keep(tx: &mut PgConnection, key: &Key, jobs: &[i64]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE job_idempotency_keys SET job_ids = $4 WHERE type_id = $1 AND owner = $2 AND key = $3",
        key.type_id,
        key.owner,
        key.key.key,
        jobs,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Keeps what a request with a key was answered.
pub async fn keep_answer(tx: &mut PgConnection, key: &Key, answer: &RawValue) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE job_idempotency_keys SET answer = $4::text::json WHERE type_id = $1 AND owner = $2 AND key = $3",
        key.type_id,
        key.owner,
        key.key.key,
        answer.get(),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes a bounded number of keys older than `retention`; returns how many.
pub async fn forget(db: impl PgExecutor<'_>, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT type_id, owner, key
            FROM job_idempotency_keys
            WHERE created_at <= now() - make_interval(secs => $1)
            ORDER BY created_at
            LIMIT $2
        )
        DELETE FROM job_idempotency_keys AS k
        USING old
        WHERE k.type_id = old.type_id AND k.owner = old.owner AND k.key = old.key
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

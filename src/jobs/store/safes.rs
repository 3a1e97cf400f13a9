//! The SQL of `job_safes`: what owners hand over for their jobs' workers alone. It goes with the end of its job, in
//! `broadcast`.

use crate::seal::Sealed;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// Puts this into the safe of a job, whose row is the transaction's own, in the place of what there is.
pub async fn put(tx: &mut PgConnection, job_id: i64, content: &Sealed) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        WITH marked AS (
            UPDATE jobs SET has_account = true WHERE id = $1 AND NOT has_account
        )
        INSERT INTO job_safes (job_id, content, key_id)
        VALUES ($1, $2, $3)
        ON CONFLICT (job_id) DO UPDATE SET content = excluded.content, key_id = excluded.key_id
        "#,
        job_id,
        content.bytes,
        content.key_id,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What lies in the safe of a job.
pub async fn content(db: impl PgExecutor<'_>, job_id: i64) -> sqlx::Result<Option<Sealed>> {
    let row = sqlx::query!("SELECT content, key_id FROM job_safes WHERE job_id = $1", job_id);
    let row = row.fetch_optional(db).await?;
    Ok(row.map(|row| Sealed { key_id: row.key_id, bytes: row.content }))
}

/// What lies in the safes of these jobs.
pub async fn contents(db: impl PgExecutor<'_>, jobs: &[i64]) -> sqlx::Result<Vec<(i64, Sealed)>> {
    let rows = sqlx::query!("SELECT job_id, content, key_id FROM job_safes WHERE job_id = ANY ($1)", jobs)
        .fetch_all(db)
        .await?;
    let found = rows.into_iter().map(|row| (row.job_id, Sealed { key_id: row.key_id, bytes: row.content }));
    Ok(found.collect())
}

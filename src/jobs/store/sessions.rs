//! The SQL of `sdk_sessions`.

use crate::seal::Sealed;
use sqlx::PgExecutor;
use std::time::Duration;

/// A session that lives.
#[derive(Debug)]
pub struct Row {
    /// Who has logged in.
    pub username: String,
    /// With whose key.
    pub integrator: String,
    /// Its own key.
    pub sealed: Sealed,
    /// Whether it is a minute since its use was written.
    pub is_stale: bool,
}

/// Begins a session.
pub async fn begin(
    db: impl PgExecutor<'_>,
    hash: &[u8],
    integrator: &str,
    username: &str,
    key: &Sealed,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO sdk_sessions (token_hash, integrator, username, key, key_id) VALUES ($1, $2, $3, $4, $5)",
        hash,
        integrator,
        username,
        key.bytes,
        key.key_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A session that was used less than `idle` ago and began less than `longest` ago.
pub async fn find(
    db: impl PgExecutor<'_>,
    hash: &[u8],
    idle: Duration,
    longest: Duration,
) -> sqlx::Result<Option<Row>> {
    let row = sqlx::query!(
        r#"
        SELECT username, integrator, key, key_id, used_at < now() - interval '1 minute' AS "is_stale!"
        FROM sdk_sessions
        WHERE token_hash = $1 AND used_at > now() - make_interval(secs => $2)
            AND created_at > now() - make_interval(secs => $3)
        "#,
        hash,
        idle.as_secs_f64(),
        longest.as_secs_f64(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Row {
        username: row.username,
        integrator: row.integrator,
        sealed: Sealed { key_id: row.key_id, bytes: row.key },
        is_stale: row.is_stale,
    }))
}

/// Writes that a session is used now.
pub async fn used(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("UPDATE sdk_sessions SET used_at = now() WHERE token_hash = $1", hash).execute(db).await?;
    Ok(())
}

/// Ends a session.
pub async fn end(db: impl PgExecutor<'_>, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM sdk_sessions WHERE token_hash = $1", hash).execute(db).await?;
    Ok(())
}

/// Deletes a bounded number of sessions that were not used for `idle`; returns how many. One that has lasted for too long is
/// not used any more either.
pub async fn forget(db: impl PgExecutor<'_>, idle: Duration, limit: i64) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT token_hash
            FROM sdk_sessions
            WHERE used_at <= now() - make_interval(secs => $1)
            ORDER BY used_at
            LIMIT $2
        )
        DELETE FROM sdk_sessions AS s
        USING old
        WHERE s.token_hash = old.token_hash AND s.used_at <= now() - make_interval(secs => $1)
        "#,
        idle.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

//! The SQL of `cardholders`: the numbers of the persons whom clients know by names of their own.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// The number of the person whom `owner` calls `cuid`: always the same while there are jobs for it.
pub async fn number(tx: &mut PgConnection, owner: &str, cuid: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO cardholders (owner, cuid)
        VALUES ($1, $2)
        ON CONFLICT ON CONSTRAINT cardholders_owner_cuid_key DO UPDATE SET used_at = now()
        RETURNING id
        "#,
        owner,
        cuid,
    )
    .fetch_one(tx)
    .await
}

/// Looks at a bounded number of persons who got no job for `retention`, and deletes those who have none any more; returns
/// how many it has looked at.
pub async fn forget(db: impl PgExecutor<'_>, retention: Duration, limit: i64) -> sqlx::Result<u64> {
    // Who still has jobs is looked at again once as much time has passed.
    let seen = sqlx::query!(
        r#"
        WITH old AS MATERIALIZED (
            SELECT c.id, EXISTS (SELECT FROM jobs AS j WHERE j.cardholder_id = c.id) AS has_jobs
            FROM cardholders AS c
            WHERE c.used_at <= now() - make_interval(secs => $1)
            ORDER BY c.used_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ),
        gone AS (
            DELETE FROM cardholders AS c
            USING old
            WHERE c.id = old.id AND NOT old.has_jobs
            RETURNING c.id
        ),
        kept AS (
            UPDATE cardholders AS c
            SET used_at = now()
            FROM old
            WHERE c.id = old.id AND old.has_jobs
            RETURNING c.id
        )
        SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM kept) AS "seen!"
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok(seen.seen.unsigned_abs())
}

//! The SQL of the fence: leases that still exist, leases that outlived their holders.

use crate::worker::Claim;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// The fence. Ends the leases in `finished` and locks those in `open`; gives those that still existed.
pub async fn fence(tx: &mut PgConnection, finished: &[Uuid], open: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    #[cfg(feature = "planted-bugs")]
    if crate::planted::has(crate::planted::Bug::UnfencedEnd) {
        return crate::planted::no_fence(tx, finished, open).await;
    }
    sqlx::query_scalar!(
        r#"
        WITH finished AS (
            DELETE FROM leases WHERE id = ANY ($1) RETURNING id
        ),
        open AS (
            SELECT id FROM leases WHERE id = ANY ($2) FOR SHARE
        )
        SELECT id AS "id!" FROM finished
        UNION ALL
        SELECT id FROM open
        "#,
        finished,
        open,
    )
    .fetch_all(tx)
    .await
}

/// Locks leases that outlived their holders, at most `limit`, and gives their items: those of these lanes, and
/// those of lanes that are gone.
pub async fn lock_dead(tx: &mut PgConnection, lanes: &[i32], limit: i64) -> sqlx::Result<Vec<Claim>> {
    let rows = sqlx::query!(
        r#"
        WITH dead AS MATERIALIZED (
            SELECT l.id, l.lane, l.ranks, l.items, l.attempts, l.claimed_at
            FROM leases AS l
            LEFT JOIN workers AS w ON w.id = l.worker
            WHERE coalesce(l.expires_at, w.heartbeat + w.lease, '-infinity') < now()
                AND (l.lane = ANY ($2) OR NOT EXISTS (SELECT FROM lanes WHERE lanes.id = l.lane))
            ORDER BY l.id
            LIMIT $1
            FOR UPDATE OF l SKIP LOCKED
        )
        SELECT
            dead.id AS "lease!", dead.lane AS "lane!", each.rank AS "rank!", each.item AS "item!",
            each.attempt AS "attempt!", dead.claimed_at AS "claimed_at!"
        FROM dead
        CROSS JOIN LATERAL unnest(dead.ranks, dead.items, dead.attempts) AS each (rank, item, attempt)
        "#,
        limit,
        lanes,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claim {
            lease: row.lease,
            lane: row.lane,
            rank: row.rank,
            item: row.item,
            attempt: row.attempt,
            claimed_at: row.claimed_at,
        })
        .collect())
}

/// The leases of a worker.
pub async fn leases_of(db: impl PgExecutor<'_>, worker: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("SELECT id FROM leases WHERE worker = $1", worker).fetch_all(db).await
}

/// Ends these leases' time at once: the reclaim takes what is in them back.
pub async fn expire(db: impl PgExecutor<'_>, leases: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE leases SET worker = NULL, expires_at = '-infinity', holder = NULL WHERE id = ANY ($1)",
        leases,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the lease that holds an item, so that its end waits for this transaction; says whether there is one.
pub async fn lock_item(tx: &mut PgConnection, item: Uuid) -> sqlx::Result<bool> {
    let lease = sqlx::query_scalar!("SELECT id FROM leases WHERE $1 = ANY (items) FOR UPDATE", item);
    Ok(lease.fetch_optional(tx).await?.is_some())
}

/// Whether anything of a lane was claimed and has not ended.
pub async fn is_leased(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM leases WHERE lane = $1) AS "leased!""#, lane)
        .fetch_one(db)
        .await
}

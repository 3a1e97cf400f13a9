//! The SQL of the fence: leases that still exist, leases that outlived their holders.

use crate::worker::Claim;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// The fence. Ends the leases in `finished` and locks those in `open`; gives those that still existed.
pub async fn fence(tx: &mut PgConnection, finished: &[Uuid], open: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
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
        WITH over AS MATERIALIZED (
            SELECT id FROM leases WHERE expires_at < now()
            UNION ALL
            SELECT leases.id
            FROM lease_workers
            JOIN leases ON leases.worker = lease_workers.worker
            WHERE NOT EXISTS (
                SELECT FROM workers AS w WHERE w.id = lease_workers.worker AND w.heartbeat + w.lease >= now()
            )
        ),
        dead AS MATERIALIZED (
            SELECT l.id, l.lane, l.ranks, l.items, l.attempts, l.claimed_at
            FROM over
            JOIN leases AS l ON l.id = over.id
            -- Asked again of the row that is locked: a heartbeat may have come first.
            WHERE coalesce(l.expires_at, '-infinity') < now()
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

/// Locks the lease that holds an item of a lane, so that its end waits for this transaction; says whether there is
/// one.
pub async fn lock_item(tx: &mut PgConnection, lane: i32, item: Uuid) -> sqlx::Result<bool> {
    let lease = sqlx::query_scalar!(
        r#"
        SELECT id
        FROM leases
        WHERE id IN (SELECT lease FROM leased_items WHERE leased_items.lane = $1 AND leased_items.item = $2)
        FOR UPDATE
        "#,
        lane,
        item,
    );
    Ok(lease.fetch_optional(tx).await?.is_some())
}

/// Whether anything of a lane was claimed and has not ended.
pub async fn is_leased(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM leased_items WHERE leased_items.lane = $1) AS "leased!""#,
        lane,
    )
    .fetch_one(db)
    .await
}

//! The SQL of the fence: leases that still exist, leases that outlived their holders.

use crate::worker::Claim;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// The fence. Ends the leases in `finished` and locks those in `open`; returns those that still existed.
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

/// As [`fence`]; and from here to the end of the transaction a statement may take no more than a sixth of the time
/// that the session grants.
pub async fn fence_shortly(
    tx: &mut PgConnection,
    finished: &[Uuid],
    open: &[Uuid],
) -> sqlx::Result<Vec<Uuid>> {
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
        ),
        limited AS (
            SELECT set_config('statement_timeout', milliseconds::text, true)
            FROM (
                SELECT (extract(epoch FROM current_setting('statement_timeout')::interval) * 1000 / 6)::integer
            ) AS sixth (milliseconds)
        )
        SELECT alive.id AS "id!"
        FROM limited, (
            SELECT id FROM finished
            UNION ALL
            SELECT id FROM open
        ) AS alive
        "#,
        finished,
        open,
    )
    .fetch_all(tx)
    .await
}

/// Leases that outlived their holders (who claim as workers, when they were given up), at most `limit`, the oldest
/// first, each with the number of its items: those of these lanes, and those of lanes that are gone. All but `without`,
/// or only those of `among`.
pub async fn dead(
    db: impl PgExecutor<'_>,
    lanes: &[i32],
    without: &[Uuid],
    among: Option<&[Uuid]>,
    limit: i64,
) -> sqlx::Result<Vec<(Uuid, usize)>> {
    let rows = sqlx::query!(
        r#"
        SELECT l.id, cardinality(l.items) AS "items!"
        FROM over_leases AS over
        JOIN leases AS l ON l.id = over.id
        WHERE (l.lane = ANY ($1) OR NOT EXISTS (SELECT FROM lanes WHERE lanes.id = l.lane))
            AND l.id <> ALL ($2)
            AND ($3::uuid[] IS NULL OR l.id = ANY ($3))
        ORDER BY l.claimed_at, l.id
        LIMIT $4
        "#,
        lanes,
        without,
        among,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, usize::try_from(row.items).unwrap_or(0))).collect())
}

/// Locks those of these leases that outlived their holders and that nobody else has locked, and returns their items.
/// From here on the transaction waits for no lock longer than `patience`.
pub async fn lock_dead(
    tx: &mut PgConnection,
    leases: &[Uuid],
    patience: Duration,
) -> sqlx::Result<Vec<Claim>> {
    let patience = format!("{}ms", patience.as_millis());
    sqlx::query_scalar!("SELECT set_config('lock_timeout', $1, true)", patience).fetch_one(&mut *tx).await?;
    let rows = sqlx::query!(
        r#"
        WITH dead AS MATERIALIZED (
            SELECT l.id, l.lane, l.ranks, l.items, l.attempts, l.traceable, l.claimed_at
            FROM leases AS l
            LEFT JOIN workers AS w ON w.id = l.worker
            LEFT JOIN clock AS c ON true
            WHERE CASE
                    WHEN l.worker IS NULL THEN is_over(l.expires_at - l.lease, l.lease, c.steady_since)
                    ELSE w.id IS NULL OR w.given_up_at IS NOT NULL
                END
                AND l.id = ANY ($1)
            ORDER BY l.id
            FOR UPDATE OF l SKIP LOCKED
        )
        SELECT
            dead.id AS "lease!", dead.lane AS "lane!", each.rank AS "rank!", each.item AS "item!",
            each.attempt AS "attempt!", dead.claimed_at AS "claimed_at!", each.traceable
        FROM dead
        CROSS JOIN LATERAL unnest(dead.ranks, dead.items, dead.attempts, dead.traceable)
            AS each (rank, item, attempt, traceable)
        "#,
        leases,
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
            traceable: row.traceable == Some(true),
        })
        .collect())
}

/// Locks one lease of a worker, and returns its items; none when it holds no lease any more.
pub async fn lock_of(tx: &mut PgConnection, worker: Uuid) -> sqlx::Result<Vec<Claim>> {
    let rows = sqlx::query!(
        r#"
        WITH held AS MATERIALIZED (
            SELECT id, lane, ranks, items, attempts, traceable, claimed_at
            FROM leases WHERE worker = $1 LIMIT 1 FOR UPDATE
        )
        SELECT
            held.id AS "lease!", held.lane AS "lane!", each.rank AS "rank!", each.item AS "item!",
            each.attempt AS "attempt!", held.claimed_at AS "claimed_at!", each.traceable
        FROM held
        CROSS JOIN LATERAL unnest(held.ranks, held.items, held.attempts, held.traceable)
            AS each (rank, item, attempt, traceable)
        "#,
        worker,
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
            traceable: row.traceable == Some(true),
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
        "UPDATE leases SET worker = NULL, expires_at = '-infinity', lease = '0', holder = NULL WHERE id = ANY ($1)",
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

/// Ends what the dead hold of a retired lane, which no consumer asks about any more, and puts what waits nowhere else
/// back into it.
pub async fn release_dead(tx: &mut PgConnection, lane: i32) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        WITH over AS (
            DELETE FROM leases
            WHERE lane = $1 AND id IN (SELECT id FROM over_leases)
            RETURNING ranks, items, attempts
        )
        INSERT INTO dispatch (lane, rank, item, attempt)
        SELECT $1, each.rank, each.item, each.attempt
        FROM over
        CROSS JOIN LATERAL unnest(over.ranks, over.items, over.attempts) AS each (rank, item, attempt)
        WHERE NOT EXISTS (SELECT FROM dispatch AS d WHERE d.item = each.item)
            AND NOT EXISTS (SELECT FROM scheduled AS s WHERE s.item = each.item)
        "#,
        lane,
    )
    .execute(tx)
    .await?;
    Ok(())
}

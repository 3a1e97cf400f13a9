//! All SQL of `dispatch`, `scheduled`, `workers` and `leases`.

use super::{Again, Claim};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// What a claim asks of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The lane.
    pub lane: i32,
    /// The most items to take.
    pub room: i32,
    /// Where to start: nothing before this (rank, seq) is looked at.
    pub from: (i16, i64),
}

/// A claimed item and where it stood in its lane.
#[derive(Debug)]
pub struct Taken {
    /// The claim.
    pub claim: Claim,
    /// Its place within its rank.
    pub seq: i64,
}

/// Takes due items: at most as many of each lane as there is room, in the order of priority and push, one
/// lease a lane. A worker that is not registered, or was given up, takes nothing.
///
/// The commit does not wait for the disk: a claim that a crash undoes has not happened, since the end of
/// its work can only become durable after it.
pub async fn claim(db: impl PgExecutor<'_>, worker: Uuid, wanted: &[Wanted]) -> sqlx::Result<Vec<Taken>> {
    let lanes: Vec<i32> = wanted.iter().map(|w| w.lane).collect();
    let rooms: Vec<i32> = wanted.iter().map(|w| w.room).collect();
    let ranks: Vec<i16> = wanted.iter().map(|w| w.from.0).collect();
    let seqs: Vec<i64> = wanted.iter().map(|w| w.from.1).collect();
    let rows = sqlx::query!(
        r#"
        WITH wanted AS (
            SELECT lane, room, from_rank, from_seq
            FROM unnest($2::int[], $3::int[], $4::smallint[], $5::bigint[]) AS w (lane, room, from_rank, from_seq)
            WHERE EXISTS (SELECT FROM workers WHERE id = $1 AND heartbeat > now() - lease)
        ),
        due AS MATERIALIZED (
            SELECT d.lane, d.rank, d.seq
            FROM wanted
            CROSS JOIN LATERAL (
                SELECT lane, rank, seq
                FROM dispatch
                WHERE lane = wanted.lane AND (rank, seq) >= (wanted.from_rank, wanted.from_seq)
                ORDER BY rank, seq
                LIMIT wanted.room
                FOR UPDATE SKIP LOCKED
            ) AS d
        ),
        taken AS (
            DELETE FROM dispatch AS d
            USING due
            WHERE d.lane = due.lane AND d.rank = due.rank AND d.seq = due.seq
            RETURNING d.lane, d.rank, d.seq, d.item, (d.attempt + 1)::smallint AS attempt
        ),
        leased AS (
            INSERT INTO leases (worker, lane, ranks, items, attempts)
            SELECT $1, lane, array_agg(rank), array_agg(item), array_agg(attempt)
            FROM taken
            GROUP BY lane
            RETURNING id, lane, claimed_at
        ),
        relaxed AS (
            SELECT set_config('synchronous_commit', 'off', true)
        )
        SELECT
            leased.id AS "lease!", taken.lane AS "lane!", taken.rank AS "rank!", taken.seq AS "seq!",
            taken.item AS "item!", taken.attempt AS "attempt!", leased.claimed_at AS "claimed_at!"
        FROM relaxed, taken
        JOIN leased ON leased.lane = taken.lane
        "#,
        worker,
        &lanes,
        &rooms,
        &ranks,
        &seqs,
    )
    .fetch_all(db)
    .await?;
    let mut taken: Vec<Taken> = rows
        .into_iter()
        .map(|row| Taken {
            claim: Claim {
                lease: row.lease,
                lane: row.lane,
                rank: row.rank,
                item: row.item,
                attempt: row.attempt,
                claimed_at: row.claimed_at,
            },
            seq: row.seq,
        })
        .collect();
    // A joined RETURNING has no order of its own.
    taken.sort_unstable_by_key(|t| (t.claim.lane, t.claim.rank, t.seq));
    Ok(taken)
}

/// Takes due items of one lane for someone outside, one lease an item, each until `lease` from now.
pub async fn claim_outside(
    db: impl PgExecutor<'_>,
    lane: i32,
    room: i32,
    holder: &str,
    lease: Duration,
) -> sqlx::Result<Vec<Claim>> {
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT lane, rank, seq
            FROM dispatch
            WHERE lane = $1
            ORDER BY rank, seq
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ),
        taken AS (
            DELETE FROM dispatch AS d
            USING due
            WHERE d.lane = due.lane AND d.rank = due.rank AND d.seq = due.seq
            RETURNING d.lane, d.rank, d.seq, d.item, (d.attempt + 1)::smallint AS attempt
        )
        INSERT INTO leases (expires_at, holder, lane, ranks, items, attempts)
        SELECT now() + make_interval(secs => $4), $3, lane, ARRAY[rank], ARRAY[item], ARRAY[attempt]
        FROM (SELECT * FROM taken ORDER BY rank, seq) AS taken
        RETURNING id, lane, ranks[1] AS "rank!", items[1] AS "item!", attempts[1] AS "attempt!", claimed_at
        "#,
        lane,
        i64::from(room),
        holder,
        lease.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Claim {
            lease: row.id,
            lane: row.lane,
            rank: row.rank,
            item: row.item,
            attempt: row.attempt,
            claimed_at: row.claimed_at,
        })
        .collect())
}

/// The claim that an outside lease of this lane and item stands for, if it still exists.
pub async fn outside(
    db: impl PgExecutor<'_>,
    lane: i32,
    item: Uuid,
    lease: i64,
) -> sqlx::Result<Option<(Claim, Option<String>)>> {
    let row = sqlx::query!(
        r#"
        SELECT ranks[1] AS "rank!", attempts[1] AS "attempt!", claimed_at, holder
        FROM leases
        WHERE id = $1 AND lane = $2 AND items = ARRAY[$3::uuid] AND worker IS NULL
        "#,
        lease,
        lane,
        item,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let (rank, attempt, claimed_at) = (row.rank, row.attempt, row.claimed_at);
        (Claim { lease, lane, rank, item, attempt, claimed_at }, row.holder)
    }))
}

/// Moves the end of an outside lease to `lease` from now; `None` when it does not exist any more.
pub async fn extend(
    db: impl PgExecutor<'_>,
    lane: i32,
    item: Uuid,
    lease: i64,
    by: Duration,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        r#"
        UPDATE leases
        SET expires_at = now() + make_interval(secs => $4)
        WHERE id = $1 AND lane = $2 AND items = ARRAY[$3::uuid] AND worker IS NULL
        RETURNING expires_at AS "expires_at!"
        "#,
        lease,
        lane,
        item,
        by.as_secs_f64(),
    )
    .fetch_optional(db)
    .await
}

/// The fence. Ends the leases in `finished` and locks those in `open`; gives those that still existed.
pub async fn fence(tx: &mut PgConnection, finished: &[i64], open: &[i64]) -> sqlx::Result<Vec<i64>> {
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

/// Puts items back: at once into `dispatch`, or into `scheduled` until their time.
pub async fn put_back(tx: &mut PgConnection, again: &[Again]) -> sqlx::Result<()> {
    if again.is_empty() {
        return Ok(());
    }
    let lanes: Vec<i32> = again.iter().map(|a| a.lane).collect();
    let ranks: Vec<i16> = again.iter().map(|a| a.rank).collect();
    let items: Vec<Uuid> = again.iter().map(|a| a.item).collect();
    let attempts: Vec<i16> = again.iter().map(|a| a.attempt).collect();
    let delays: Vec<f64> = again.iter().map(|a| a.after.as_secs_f64()).collect();
    sqlx::query!(
        r#"
        WITH again AS (
            SELECT lane, rank, item, attempt, delay
            FROM unnest($1::int[], $2::smallint[], $3::uuid[], $4::smallint[], $5::float8[])
                AS a (lane, rank, item, attempt, delay)
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item, attempt)
            SELECT lane, rank, item, attempt FROM again WHERE delay <= 0
        )
        INSERT INTO scheduled (run_at, lane, rank, item, attempt)
        SELECT now() + make_interval(secs => delay), lane, rank, item, attempt FROM again WHERE delay > 0
        "#,
        &lanes,
        &ranks,
        &items,
        &attempts,
        &delays,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves items whose time has come to `dispatch`, at most `limit`; gives the lane and rank of each.
pub async fn promote(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<(i32, i16)>> {
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT run_at, item
            FROM scheduled
            WHERE run_at <= now()
            ORDER BY run_at
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ),
        moved AS (
            DELETE FROM scheduled AS s
            USING due
            WHERE s.run_at = due.run_at AND s.item = due.item
            RETURNING s.run_at, s.lane, s.rank, s.item, s.attempt
        )
        INSERT INTO dispatch (lane, rank, item, attempt)
        SELECT lane, rank, item, attempt FROM moved ORDER BY run_at
        RETURNING lane, rank
        "#,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.rank)).collect())
}

/// What a look at the database says.
#[derive(Debug)]
pub struct Pulse {
    /// The lanes, of those asked for, that have something to claim.
    pub ready: Vec<i32>,
    /// How many seconds until the next scheduled item is due; negative when it is overdue.
    pub next_due: Option<f64>,
    /// Whether a lease has outlived its holder.
    pub dead_leases: bool,
    /// The catalog's revision.
    pub revision: i64,
}

/// Looks whether there is anything to do, in one statement that writes nothing.
pub async fn pulse(db: impl PgExecutor<'_>, lanes: &[i32]) -> sqlx::Result<Pulse> {
    sqlx::query_as!(
        Pulse,
        r#"
        SELECT
            ARRAY(
                SELECT wanted.lane
                FROM unnest($1::int[]) AS wanted (lane)
                WHERE EXISTS (SELECT FROM dispatch WHERE dispatch.lane = wanted.lane)
            ) AS "ready!",
            (SELECT extract(epoch FROM min(run_at) - now())::float8 FROM scheduled) AS "next_due",
            EXISTS (
                SELECT
                FROM leases
                LEFT JOIN workers ON workers.id = leases.worker
                WHERE coalesce(leases.expires_at, workers.heartbeat + workers.lease, '-infinity') < now()
            ) AS "dead_leases!",
            (SELECT revision FROM catalog) AS "revision!"
        "#,
        lanes,
    )
    .fetch_one(db)
    .await
}

/// Adds a worker.
pub async fn register(
    db: impl PgExecutor<'_>,
    id: Uuid,
    name: &str,
    lease: Duration,
    capacity: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO workers (id, name, lease, capacity)
        VALUES ($1, $2, make_interval(secs => $3), $4)
        "#,
        id,
        name,
        lease.as_secs_f64(),
        capacity,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Says that the worker lives: the database's time and how many other workers live too; `None` when it was
/// given up, or its time was over.
pub async fn renew(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<(DateTime<Utc>, i64)>> {
    let row = sqlx::query!(
        r#"
        UPDATE workers
        SET heartbeat = now()
        WHERE id = $1 AND heartbeat > now() - lease
        RETURNING
            now() AS "now!",
            (SELECT count(*) FROM workers AS other WHERE other.id <> $1 AND other.heartbeat > now() - other.lease) AS "others!"
        "#,
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.now, row.others)))
}

/// Removes a worker. Leases that it still holds are dead from now on.
pub async fn deregister(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM workers WHERE id = $1", id).execute(db).await?;
    Ok(())
}

/// An item of a lease that outlived its holder.
#[derive(Debug)]
pub struct Dead {
    /// The claim.
    pub claim: Claim,
    /// Whether its lane is still there.
    pub lane_exists: bool,
}

/// Locks leases that outlived their holders, at most `limit`, and gives their items.
pub async fn lock_dead(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Dead>> {
    let rows = sqlx::query!(
        r#"
        WITH dead AS MATERIALIZED (
            SELECT l.id, l.lane, l.ranks, l.items, l.attempts, l.claimed_at
            FROM leases AS l
            LEFT JOIN workers AS w ON w.id = l.worker
            WHERE coalesce(l.expires_at, w.heartbeat + w.lease, '-infinity') < now()
            ORDER BY l.id
            LIMIT $1
            FOR UPDATE OF l SKIP LOCKED
        )
        SELECT
            dead.id AS "lease!", dead.lane AS "lane!", each.rank AS "rank!", each.item AS "item!",
            each.attempt AS "attempt!", dead.claimed_at AS "claimed_at!",
            EXISTS (SELECT FROM lanes WHERE lanes.id = dead.lane) AS "lane_exists!"
        FROM dead
        CROSS JOIN LATERAL unnest(dead.ranks, dead.items, dead.attempts) AS each (rank, item, attempt)
        "#,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Dead {
            claim: Claim {
                lease: row.lease,
                lane: row.lane,
                rank: row.rank,
                item: row.item,
                attempt: row.attempt,
                claimed_at: row.claimed_at,
            },
            lane_exists: row.lane_exists,
        })
        .collect())
}

/// Removes workers that are dead and hold nothing any more.
pub async fn bury(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        DELETE FROM workers AS w
        WHERE w.heartbeat < now() - w.lease
            AND NOT EXISTS (SELECT FROM leases AS l WHERE l.worker = w.id)
        "#
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes a bounded number of rows of lanes that are gone: nothing claims them any more. Gives how many.
pub async fn sweep(tx: &mut PgConnection, limit: i64) -> sqlx::Result<u64> {
    let ready = sqlx::query!(
        r#"
        DELETE FROM dispatch
        WHERE (lane, rank, seq) IN (
            SELECT lane, rank, seq FROM dispatch WHERE lane NOT IN (SELECT id FROM lanes) LIMIT $1
        )
        "#,
        limit,
    )
    .execute(&mut *tx)
    .await?;
    let later = sqlx::query!(
        r#"
        DELETE FROM scheduled
        WHERE (run_at, item) IN (
            SELECT run_at, item FROM scheduled WHERE lane NOT IN (SELECT id FROM lanes) LIMIT $1
        )
        "#,
        limit,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("DELETE FROM leases WHERE lane NOT IN (SELECT id FROM lanes)").execute(tx).await?;
    Ok(ready.rows_affected().max(later.rows_affected()))
}

/// Takes an item out of `scheduled`, if it waits there.
pub async fn unschedule(tx: &mut PgConnection, item: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM scheduled WHERE item = $1", item).execute(tx).await?;
    Ok(())
}

/// Locks the lease that holds an item, so that its end waits for this transaction; says whether there is one.
pub async fn lock_item(tx: &mut PgConnection, item: Uuid) -> sqlx::Result<bool> {
    let lease = sqlx::query_scalar!("SELECT id FROM leases WHERE $1 = ANY (items) FOR UPDATE", item);
    Ok(lease.fetch_optional(tx).await?.is_some())
}

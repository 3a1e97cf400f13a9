//! The SQL of claims: due items become leases.

use crate::worker::Claim;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
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
/// lease a lane. A worker that is not registered, or was given up, takes nothing. Attempts are counted up to the
/// highest number that there is, and not beyond.
///
/// Rows are found once: where they lie (`ctid`) is enough to delete them, since the lock keeps them there.
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
            SELECT d.place
            FROM wanted
            CROSS JOIN LATERAL (
                SELECT dispatch.ctid AS place
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
            WHERE d.ctid = due.place
            RETURNING d.lane, d.rank, d.seq, d.item, (least(d.attempt, 32766) + 1)::smallint AS attempt
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
    #[cfg(feature = "planted-bugs")]
    if crate::planted::has(crate::planted::Bug::LimitInIn) {
        return crate::planted::claim_in(db, lane, room, holder, lease).await;
    }
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
            RETURNING d.lane, d.rank, d.seq, d.item, (least(d.attempt, 32766) + 1)::smallint AS attempt
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
    lease: Uuid,
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
    lease: Uuid,
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

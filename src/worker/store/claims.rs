//! The SQL of claims: due items become leases.

use crate::worker::Claim;
use sqlx::PgExecutor;
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
/// The commit does not wait for the disk. A claim that a crash of the database undoes has not happened: the end of its
/// work can only become durable after it, and does not count. But who does not start at once would not know, and start
/// after another has claimed the same and ended it: see [`confirm`].
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
            WHERE EXISTS (SELECT FROM workers WHERE id = $1 AND given_up_at IS NULL)
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
            RETURNING d.lane, d.rank, d.seq, d.item, (least(d.attempt, 32766) + 1)::smallint AS attempt, d.traceable
        ),
        leased AS (
            INSERT INTO leases (worker, lane, ranks, items, attempts, traceable)
            SELECT
                $1, lane, array_agg(rank), array_agg(item), array_agg(attempt),
                CASE WHEN bool_or(traceable) THEN array_agg(traceable) END
            FROM taken
            GROUP BY lane
            RETURNING id, lane, claimed_at
        ),
        relaxed AS (
            SELECT set_config('synchronous_commit', 'off', true)
        )
        SELECT
            leased.id AS "lease!", taken.lane AS "lane!", taken.rank AS "rank!", taken.seq AS "seq!",
            taken.item AS "item!", taken.attempt AS "attempt!", leased.claimed_at AS "claimed_at!",
            taken.traceable
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
                traceable: row.traceable == Some(true),
            },
            seq: row.seq,
        })
        .collect();
    // A joined RETURNING has no order of its own.
    taken.sort_unstable_by_key(|t| (t.claim.lane, t.claim.rank, t.seq));
    Ok(taken)
}

/// Those of these leases that exist, and will after a crash: a row lock is written ahead as a change is, so that this
/// commit waits for the disk, and for everything that was written before, the claims among it.
pub async fn confirm(db: impl PgExecutor<'_>, leases: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("SELECT id FROM leases WHERE id = ANY ($1) FOR KEY SHARE", leases).fetch_all(db).await
}

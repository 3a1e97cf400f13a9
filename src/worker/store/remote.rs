//! The SQL of remote workers: leases that each hold one item and end by themselves, unless heartbeats come.

use crate::worker::Claim;
use crate::worker::remote::Terms;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// What a claim for remote workers asks of one lane.
#[derive(Debug)]
pub struct Asked {
    /// The lane.
    pub lane: i32,
    /// Where to start: nothing before this (rank, seq) is looked at.
    pub from: (i16, i64),
    /// What holds for its leases.
    pub terms: Terms,
    /// Who takes how many items, in the order in which they are served.
    pub shares: Vec<(String, i32)>,
}

impl Asked {
    /// How many items all shares ask for.
    pub fn room(&self) -> i32 {
        self.shares.iter().map(|(_, most)| most).sum()
    }
}

/// An item that was claimed for a remote worker.
#[derive(Debug)]
pub struct Given {
    /// The claim.
    pub claim: Claim,
    /// Its place within its rank.
    pub seq: i64,
    /// Its place among what was claimed of its lane, from 1: whose share it is.
    pub place: i64,
}

/// The lanes, of those asked for, that have something to claim. In each nothing before the given (rank, seq) is
/// looked at.
pub async fn ready(db: impl PgExecutor<'_>, from: &[(i32, (i16, i64))]) -> sqlx::Result<Vec<i32>> {
    let (lanes, ranks, seqs) = columns(from);
    sqlx::query_scalar!(
        r#"
        SELECT wanted.lane AS "lane!"
        FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS wanted (lane, from_rank, from_seq)
        WHERE EXISTS (
            SELECT FROM dispatch AS d
            WHERE d.lane = wanted.lane AND (d.rank, d.seq) >= (wanted.from_rank, wanted.from_seq)
        )
        "#,
        &lanes,
        &ranks,
        &seqs,
    )
    .fetch_all(db)
    .await
}

/// Locks those of these lanes that have something to claim, until the transaction ends: who counts a lane's leases
/// in the next statement counts all there are. Of each that has something, whether it is locked; nobody waits for
/// another process that is counting.
pub async fn lock_lanes(tx: &mut PgConnection, from: &[(i32, (i16, i64))]) -> sqlx::Result<Vec<(i32, bool)>> {
    let (lanes, ranks, seqs) = columns(from);
    let rows = sqlx::query!(
        r#"
        SELECT wanted.lane AS "lane!", mine.id IS NOT NULL AS "locked!"
        FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS wanted (lane, from_rank, from_seq)
        LEFT JOIN LATERAL (
            SELECT lanes.id FROM lanes WHERE lanes.id = wanted.lane FOR NO KEY UPDATE SKIP LOCKED
        ) AS mine ON true
        WHERE EXISTS (
            SELECT FROM dispatch AS d
            WHERE d.lane = wanted.lane AND (d.rank, d.seq) >= (wanted.from_rank, wanted.from_seq)
        )
        "#,
        &lanes,
        &ranks,
        &seqs,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.locked)).collect())
}

fn columns(from: &[(i32, (i16, i64))]) -> (Vec<i32>, Vec<i16>, Vec<i64>) {
    let lanes = from.iter().map(|(lane, _)| *lane).collect();
    let ranks = from.iter().map(|(_, (rank, _))| *rank).collect();
    let seqs = from.iter().map(|(_, (_, seq))| *seq).collect();
    (lanes, ranks, seqs)
}

/// Whose each place of each lane is, as columns: the lane, the first and the last place, the holder.
fn shares(asked: &[Asked]) -> (Vec<i32>, Vec<i32>, Vec<i32>, Vec<&str>) {
    let (mut lanes, mut firsts, mut lasts, mut holders) = (vec![], vec![], vec![], vec![]);
    for Asked { lane, shares, .. } in asked {
        let mut last = 0;
        for (holder, most) in shares {
            lanes.push(*lane);
            firsts.push(last + 1);
            last += most;
            lasts.push(last);
            holders.push(holder.as_str());
        }
    }
    (lanes, firsts, lasts, holders)
}

/// Takes due items for remote workers, one lease an item: of each lane at most what is asked, and no more than its
/// concurrency leaves room for beside the leases that are there. That is exact only while the lane is locked, see
/// [`lock_lanes`]. Leases that ended more than a minute ago were taken back: to count them would be to walk their
/// dead index entries, which one idle transaction keeps.
pub async fn claim_remote(tx: &mut PgConnection, asked: &[Asked]) -> sqlx::Result<Vec<Given>> {
    let lanes: Vec<i32> = asked.iter().map(|a| a.lane).collect();
    let ranks: Vec<i16> = asked.iter().map(|a| a.from.0).collect();
    let seqs: Vec<i64> = asked.iter().map(|a| a.from.1).collect();
    let rooms: Vec<i32> = asked.iter().map(Asked::room).collect();
    let most: Vec<Option<i32>> = asked.iter().map(|a| a.terms.concurrency).collect();
    let leases: Vec<f64> = asked.iter().map(|a| a.terms.lease.as_secs_f64()).collect();
    let timeouts: Vec<Option<f64>> =
        asked.iter().map(|a| a.terms.timeout.map(|timeout| timeout.as_secs_f64())).collect();
    let kept: Vec<Option<&str>> = asked.iter().map(|a| a.terms.kept.as_deref()).collect();
    let (share_lanes, firsts, lasts, holders) = shares(asked);
    let rows = sqlx::query!(
        r#"
        WITH wanted AS MATERIALIZED (
            SELECT
                lane, from_rank, from_seq, room, most, least(lease, timeout) AS lease, timeout, kept
            FROM unnest(
                $1::int[], $2::smallint[], $3::bigint[], $4::int[], $5::int[], $6::float8[], $7::float8[], $12::text[]
            ) AS w (lane, from_rank, from_seq, room, most, lease, timeout, kept)
        ),
        due AS MATERIALIZED (
            SELECT d.place
            FROM wanted
            CROSS JOIN LATERAL (
                SELECT wanted.most - count(*) AS places
                FROM leases
                WHERE wanted.most IS NOT NULL
                    AND leases.lane = wanted.lane AND leases.holder IS NOT NULL
                    AND leases.expires_at > now() - interval '1 minute'
            ) AS free
            CROSS JOIN LATERAL (
                SELECT dispatch.ctid AS place
                FROM dispatch
                WHERE lane = wanted.lane AND (rank, seq) >= (wanted.from_rank, wanted.from_seq)
                ORDER BY rank, seq
                LIMIT least(wanted.room, greatest(free.places, CASE WHEN wanted.most IS NOT NULL THEN 0 END))
                FOR UPDATE SKIP LOCKED
            ) AS d
        ),
        taken AS (
            DELETE FROM dispatch AS d
            USING due
            WHERE d.ctid = due.place
            RETURNING d.lane, d.rank, d.seq, d.item, (least(d.attempt, 32766) + 1)::smallint AS attempt, d.traceable
        ),
        given AS MATERIALIZED (
            SELECT
                gen_random_uuid() AS lease, lane, rank, seq, item, attempt, traceable,
                row_number() OVER (PARTITION BY lane ORDER BY rank, seq) AS place
            FROM taken
        ),
        leased AS (
            INSERT INTO leases (id, expires_at, lease, deadline, holder, lane, ranks, items, attempts, traceable, terms)
            SELECT
                given.lease,
                now() + make_interval(secs => wanted.lease), make_interval(secs => wanted.lease),
                now() + make_interval(secs => wanted.timeout),
                share.holder, given.lane, ARRAY[given.rank], ARRAY[given.item], ARRAY[given.attempt],
                CASE WHEN given.traceable THEN ARRAY[true] END, wanted.kept::json
            FROM given
            JOIN wanted ON wanted.lane = given.lane
            JOIN unnest($8::int[], $9::int[], $10::int[], $11::text[]) AS share (lane, first, last, holder)
                ON share.lane = given.lane AND given.place BETWEEN share.first AND share.last
        )
        SELECT
            lease AS "lease!", lane AS "lane!", rank AS "rank!", seq AS "seq!", item AS "item!",
            attempt AS "attempt!", place AS "place!", now() AS "claimed_at!", traceable
        FROM given
        ORDER BY lane, place
        "#,
        &lanes,
        &ranks,
        &seqs,
        &rooms,
        &most as _,
        &leases,
        &timeouts as _,
        &share_lanes,
        &firsts,
        &lasts,
        &holders as _,
        &kept as _,
    )
    .fetch_all(tx)
    .await?;
    let given = rows.into_iter().map(|row| Given {
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
        place: row.place,
    });
    Ok(given.collect())
}

/// A claim by a remote worker.
#[derive(Debug)]
pub struct Outside {
    /// The claim.
    pub claim: Claim,
    /// Who claimed.
    pub holder: Option<String>,
    /// What was kept with it.
    pub terms: Option<String>,
}

/// The claim that a remote worker's lease of this lane and item stands for, if it still exists.
pub async fn outside(
    db: impl PgExecutor<'_>,
    lane: i32,
    item: Uuid,
    lease: Uuid,
) -> sqlx::Result<Option<Outside>> {
    let row = sqlx::query!(
        r#"
        SELECT ranks[1] AS "rank!", attempts[1] AS "attempt!", claimed_at, holder, traceable[1] AS traceable, terms::text AS terms
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
        let traceable = row.traceable == Some(true);
        let claim = Claim { lease, lane, rank, item, attempt, claimed_at, traceable };
        Outside { claim, holder: row.holder, terms: row.terms }
    }))
}

/// Moves the end of a remote worker's lease to `by` from now, but not past its deadline; `None` when that has passed,
/// or the lease does not exist any more.
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
        SET expires_at = least(now() + make_interval(secs => $4), deadline),
            lease = least(make_interval(secs => $4), deadline - now())
        WHERE id = $1 AND lane = $2 AND items = ARRAY[$3::uuid] AND holder IS NOT NULL
            AND coalesce(deadline > now(), true)
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

//! The SQL of items that wait: put back, promoted, taken out.

use crate::worker::Again;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

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
    let traceable: Vec<bool> = again.iter().map(|a| a.traceable).collect();
    sqlx::query!(
        r#"
        WITH again AS (
            SELECT lane, rank, item, attempt, delay, nullif(traceable, false) AS traceable
            FROM unnest($1::int[], $2::smallint[], $3::uuid[], $4::smallint[], $5::float8[], $6::bool[])
                AS a (lane, rank, item, attempt, delay, traceable)
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item, attempt, traceable)
            SELECT lane, rank, item, attempt, traceable FROM again WHERE delay <= 0
        )
        INSERT INTO scheduled (run_at, lane, rank, item, attempt, traceable)
        SELECT now() + make_interval(secs => delay), lane, rank, item, attempt, traceable FROM again WHERE delay > 0
        "#,
        &lanes,
        &ranks,
        &items,
        &attempts,
        &delays,
        &traceable,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves items whose time has come to `dispatch`, at most `limit`; returns the lane and rank of each.
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
            RETURNING s.run_at, s.lane, s.rank, s.item, s.attempt, s.traceable
        )
        INSERT INTO dispatch (lane, rank, item, attempt, traceable)
        SELECT lane, rank, item, attempt, traceable FROM moved ORDER BY run_at, item
        RETURNING lane, rank
        "#,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.rank)).collect())
}

/// How many seconds until the next scheduled item is due; negative when it is overdue.
pub async fn next_due(db: impl PgExecutor<'_>) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar!("SELECT extract(epoch FROM min(run_at) - now())::float8 FROM scheduled")
        .fetch_one(db)
        .await
}

/// An item that is ready and is to wait.
#[derive(Debug, Clone, Copy)]
pub struct PutOff {
    /// Its place in its lane: rank and seq.
    pub place: (i16, i64),
    /// Until when it waits.
    pub until: DateTime<Utc>,
}

/// Puts items of a lane that are ready off for a while; their attempts stay counted as they are. What somebody else
/// claims just now is left to them.
pub async fn put_off(tx: &mut PgConnection, lane: i32, items: &[PutOff]) -> sqlx::Result<()> {
    let (ranks, seqs): (Vec<i16>, Vec<i64>) = items.iter().map(|item| item.place).unzip();
    let until: Vec<DateTime<Utc>> = items.iter().map(|item| item.until).collect();
    sqlx::query!(
        r#"
        WITH ready AS MATERIALIZED (
            SELECT d.ctid AS place, o.run_at
            FROM unnest($2::smallint[], $3::bigint[], $4::timestamptz[]) AS o (rank, seq, run_at)
            JOIN dispatch AS d ON d.lane = $1 AND d.rank = o.rank AND d.seq = o.seq
            FOR UPDATE OF d SKIP LOCKED
        ),
        taken AS (
            DELETE FROM dispatch AS d
            USING ready
            WHERE d.ctid = ready.place
            RETURNING ready.run_at, d.lane, d.rank, d.item, d.attempt
        )
        INSERT INTO scheduled (run_at, lane, rank, item, attempt)
        SELECT run_at, lane, rank, item, attempt FROM taken
        "#,
        lane,
        &ranks,
        &seqs,
        &until,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The most items of all lanes among which [`hasten`] looks for those of one.
const AMONG: i64 = 10_000;

/// Which of the items that wait are made to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that were never tried: they do not wait by backoff.
    Untried,
    /// All.
    All,
}

/// Makes items of a lane that wait until `from`, give or take a second, or longer, due at once, at most `limit`; returns
/// how many. It looks at those that are due soonest after that moment, and at no more than `AMONG`.
pub async fn hasten(
    db: impl PgExecutor<'_>,
    lane: i32,
    which: Which,
    from: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"
        WITH soon AS MATERIALIZED (
            SELECT run_at, item, lane
            FROM scheduled
            WHERE run_at > greatest($2::timestamptz - interval '1 second', now())
            ORDER BY run_at
            LIMIT $4
        ),
        waiting AS MATERIALIZED (
            SELECT s.run_at, s.item
            FROM soon
            JOIN scheduled AS s ON s.run_at = soon.run_at AND s.item = soon.item
            WHERE soon.lane = $1 AND (s.attempt = 0 OR $5)
            LIMIT $3
            FOR UPDATE OF s SKIP LOCKED
        )
        UPDATE scheduled AS s
        SET run_at = now()
        FROM waiting
        WHERE s.run_at = waiting.run_at AND s.item = waiting.item
        "#,
        lane,
        from,
        limit,
        AMONG,
        which == Which::All,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Takes an item out of `scheduled`, if it waits there.
pub async fn unschedule(tx: &mut PgConnection, item: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM scheduled WHERE item = $1", item).execute(tx).await?;
    Ok(())
}

/// Makes those of these items that wait in `scheduled` ready at once, with their attempts counted from the
/// start; returns the lane of each.
pub async fn hurry(tx: &mut PgConnection, items: &[Uuid]) -> sqlx::Result<Vec<(i32, Uuid)>> {
    let rows = sqlx::query!(
        r#"
        WITH taken AS (
            DELETE FROM scheduled WHERE item = ANY ($1) RETURNING run_at, lane, rank, item
        )
        INSERT INTO dispatch (lane, rank, item)
        SELECT lane, rank, item FROM taken ORDER BY run_at, item
        RETURNING lane, item
        "#,
        items,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.item)).collect())
}

/// Moves items that wait in the lane `from` each to a lane of its own, with their time or behind what is ready
/// there; returns the lanes in which something is ready now.
pub async fn redirect(tx: &mut PgConnection, from: i32, to: &[(Uuid, i32)]) -> sqlx::Result<Vec<i32>> {
    let (items, lanes): (Vec<Uuid>, Vec<i32>) = to.iter().copied().unzip();
    sqlx::query_scalar!(
        r#"
        WITH goal AS (
            SELECT item, lane FROM unnest($2::uuid[], $3::int[]) AS g (item, lane)
        ),
        later AS (
            UPDATE scheduled AS s SET lane = goal.lane FROM goal WHERE s.item = goal.item AND s.lane = $1
        ),
        taken AS (
            DELETE FROM dispatch AS d
            USING goal
            WHERE d.lane = $1 AND d.item = goal.item
            RETURNING goal.lane, d.rank, d.seq, d.item, d.attempt
        ),
        moved AS (
            INSERT INTO dispatch (lane, rank, item, attempt)
            SELECT lane, rank, item, attempt FROM taken ORDER BY rank, seq
            RETURNING lane
        )
        SELECT DISTINCT lane AS "lane!" FROM moved
        "#,
        from,
        &items,
        &lanes,
    )
    .fetch_all(tx)
    .await
}

/// The lanes in which an item waits.
pub async fn lanes_of(db: impl PgExecutor<'_>, item: Uuid) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!(
        r#"
        SELECT lane AS "lane!" FROM scheduled WHERE item = $1
        UNION ALL
        SELECT lane FROM dispatch WHERE item = $1
        "#,
        item,
    )
    .fetch_all(db)
    .await
}

/// Takes items out of the lanes in which they wait; returns those that waited there still.
pub async fn withdraw(tx: &mut PgConnection, waiting: &[(i32, Uuid)]) -> sqlx::Result<Vec<Uuid>> {
    let (lanes, items): (Vec<i32>, Vec<Uuid>) = waiting.iter().copied().unzip();
    sqlx::query_scalar!(
        r#"
        WITH waiting AS (
            SELECT lane, item FROM unnest($1::int[], $2::uuid[]) AS w (lane, item)
        ),
        ready AS (
            DELETE FROM dispatch AS d
            USING waiting
            WHERE d.lane = waiting.lane AND d.item = waiting.item
            RETURNING d.item
        ),
        later AS (
            DELETE FROM scheduled AS s
            USING waiting
            WHERE s.lane = waiting.lane AND s.item = waiting.item
            RETURNING s.item
        )
        SELECT item AS "item!" FROM ready
        UNION ALL
        SELECT item FROM later
        "#,
        &lanes,
        &items,
    )
    .fetch_all(tx)
    .await
}

//! The SQL of workers, and of the look that finds out whether there is anything to do.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// What a look at the database says.
#[derive(Debug)]
pub struct Pulse {
    /// The lanes, of those asked for, that have something to claim.
    pub ready: Vec<i32>,
    /// How many seconds until the next scheduled item is due; negative when it is overdue.
    pub next_due: Option<f64>,
    /// Whether a worker is to be given up, or a lease has outlived its holder.
    pub dead_leases: bool,
    /// The catalog's revision.
    pub revision: i64,
}

/// Looks whether there is anything to do, in one statement that writes nothing. In each lane nothing before
/// the given (rank, seq) is looked at; nor, unless this is a `sweep`, are remote workers' leases that ended more
/// than a minute ago. They were taken back then, and the index keeps their dead entries until a vacuum.
pub async fn pulse(db: impl PgExecutor<'_>, from: &[(i32, (i16, i64))], sweep: bool) -> sqlx::Result<Pulse> {
    let lanes: Vec<i32> = from.iter().map(|(lane, _)| *lane).collect();
    let ranks: Vec<i16> = from.iter().map(|(_, (rank, _))| *rank).collect();
    let seqs: Vec<i64> = from.iter().map(|(_, (_, seq))| *seq).collect();
    sqlx::query_as!(
        Pulse,
        r#"
        SELECT
            ARRAY(
                SELECT wanted.lane
                FROM unnest($1::int[], $2::smallint[], $3::bigint[]) AS wanted (lane, from_rank, from_seq)
                WHERE EXISTS (
                    SELECT FROM dispatch AS d
                    WHERE d.lane = wanted.lane AND (d.rank, d.seq) >= (wanted.from_rank, wanted.from_seq)
                )
            ) AS "ready!",
            (SELECT extract(epoch FROM min(run_at) - now())::float8 FROM scheduled) AS "next_due",
            EXISTS (
                SELECT
                FROM workers AS w
                CROSS JOIN clock AS c
                WHERE w.given_up_at IS NULL AND is_over(w.heartbeat, w.lease, c.steady_since)
            ) OR EXISTS (
                SELECT
                FROM leases AS l
                CROSS JOIN clock AS c
                WHERE l.expires_at < now()
                    AND l.expires_at >= CASE WHEN $4 THEN '-infinity' ELSE now() - interval '1 minute' END
                    AND is_over(l.expires_at - l.lease, l.lease, c.steady_since)
            ) OR EXISTS (
                -- Stamped before the clock was set back, if it was.
                SELECT
                FROM leases AS l
                CROSS JOIN clock AS c
                WHERE (SELECT steady_since > now() - interval '1 day' FROM clock)
                    AND l.expires_at - l.lease > now() + interval '1 second'
                    AND is_over(l.expires_at - l.lease, l.lease, c.steady_since)
            ) OR EXISTS (
                SELECT
                FROM lease_workers AS held
                WHERE NOT EXISTS (SELECT FROM workers AS w WHERE w.id = held.worker AND w.given_up_at IS NULL)
            ) AS "dead_leases!",
            (SELECT revision FROM catalog) AS "revision!"
        "#,
        &lanes,
        &ranks,
        &seqs,
        sweep,
    )
    .fetch_one(db)
    .await
}

/// A worker that registers.
#[derive(Debug)]
pub struct Worker<'a> {
    /// Its name for this registration.
    pub id: Uuid,
    /// Its process, however often that registers.
    pub process: Uuid,
    /// What people call it.
    pub name: &'a str,
    /// How long it lives after each heartbeat.
    pub lease: Duration,
    /// How many items it runs at once.
    pub capacity: i32,
    /// What it can run and another may not.
    pub runs: &'a [String],
}

/// Adds a worker; returns the database's time.
///
/// `expected` is what the time ought to be by the process's own clock: where it is not, the database's clock was set.
/// A process that has not heard of the time before has no such knowledge. While no other has seen the clock as it is,
/// it may have been set as well.
pub async fn register(
    db: impl PgExecutor<'_>,
    worker: &Worker<'_>,
    expected: Option<DateTime<Utc>>,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO workers (id, name, lease, capacity, process, runs, steady_since)
        SELECT
            $1, $2, given.lease, $4, $6, $7,
            CASE
                WHEN $5::timestamptz NOT BETWEEN now() - given.lease / 3 AND now() + given.lease / 3 THEN now()
                WHEN $5 IS NULL AND EXISTS (SELECT FROM workers) AND NOT EXISTS (SELECT FROM clock) THEN now()
                ELSE '-infinity'
            END
        FROM make_interval(secs => $3) AS given (lease)
        RETURNING now() AS "now!"
        "#,
        worker.id,
        worker.name,
        worker.lease.as_secs_f64(),
        worker.capacity,
        expected,
        worker.process,
        worker.runs,
    )
    .fetch_one(db)
    .await
}

/// What a heartbeat is answered.
#[derive(Debug)]
pub struct Renewed {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// How many other workers live.
    pub others: i64,
    /// Items that it holds and is to stop.
    pub stops: Vec<Uuid>,
}

/// Says that the worker lives, and that it has `stopped` what it was told to; `None` when it was given up, or its time was
/// over.
///
/// `expected` is what the time ought to be by the process's own clock. Where it is not, the database's clock was set,
/// which is noted; whether the worker's time was over is measured by the earlier of the two. An answer is waited for
/// no longer than a third of the lease, so the two may differ by as much.
pub async fn renew(
    db: impl PgExecutor<'_>,
    id: Uuid,
    expected: DateTime<Utc>,
    stopped: &[Uuid],
) -> sqlx::Result<Option<Renewed>> {
    sqlx::query_as!(
        Renewed,
        r#"
        UPDATE workers
        SET heartbeat = now(),
            clock_at = now(),
            stops = ARRAY(SELECT unnest(stops) EXCEPT SELECT unnest($3::uuid[])),
            steady_since = CASE
                WHEN now() BETWEEN $2::timestamptz - lease / 3 AND $2 + lease / 3 THEN steady_since
                ELSE now()
            END
        WHERE id = $1 AND given_up_at IS NULL AND heartbeat > least(now(), $2) - lease
        RETURNING
            now() AS "now!",
            (
                SELECT count(*)
                FROM workers AS other
                WHERE other.id <> $1 AND other.given_up_at IS NULL AND NOT is_silent(other.heartbeat, other.lease)
            ) AS "others!",
            stops
        "#,
        id,
        expected,
        stopped,
    )
    .fetch_optional(db)
    .await
}

/// Tells the process that holds an item of a lane to stop it: at once where it listens (by a notification of `payload`),
/// else with its next heartbeat.
pub async fn tell_to_stop(db: impl PgExecutor<'_>, lane: i32, item: Uuid, payload: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        WITH told AS (
            UPDATE workers
            SET stops = array_append(stops, $2)
            WHERE id IN (SELECT worker FROM leased_items AS held WHERE held.lane = $1 AND held.item = $2)
        )
        SELECT pg_notify(bell_channel(), $3)
        "#,
        lane,
        item,
        payload,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Gives up the workers that are silent: from now on they neither renew nor claim, and the leases that they hold are
/// dead. Who renews meanwhile is not given up.
pub async fn give_up(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let given_up = sqlx::query!(
        r#"
        UPDATE workers AS w
        SET given_up_at = now()
        FROM clock AS c
        WHERE w.given_up_at IS NULL AND is_over(w.heartbeat, w.lease, c.steady_since)
        "#
    );
    Ok(given_up.execute(db).await?.rows_affected())
}

/// Removes a worker. Leases that it still holds are dead from now on.
pub async fn deregister(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM workers WHERE id = $1", id).execute(db).await?;
    Ok(())
}

/// Removes workers that were given up and hold nothing any more.
pub async fn bury(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        DELETE FROM workers AS w
        WHERE w.given_up_at IS NOT NULL
            AND NOT EXISTS (SELECT FROM leases AS l WHERE l.worker = w.id)
        "#
    )
    .execute(tx)
    .await?;
    Ok(())
}

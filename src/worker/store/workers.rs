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
    /// Whether a lease has outlived its holder.
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
                SELECT FROM leases
                WHERE expires_at < now()
                    AND expires_at >= CASE WHEN $4 THEN '-infinity' ELSE now() - interval '1 minute' END
            ) OR EXISTS (
                SELECT FROM lease_workers
                WHERE NOT EXISTS (
                    SELECT FROM workers AS w
                    WHERE w.id = lease_workers.worker AND w.heartbeat + w.lease >= now()
                )
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

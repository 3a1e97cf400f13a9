//! The SQL of what the engine knows of an item that is not running. Whatever waits, no statement reads more than a bounded
//! number of rows.

use crate::error::is_time_out;
use crate::worker::why::Holder;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// No question looks at more rows than this: where there are more, the answer says "10,000 or more".
pub const LOOKED_AT: i64 = 10_000;

/// Makes every statement of the transaction see one moment, go by indexes, and none take long; returns the moment.
///
/// Left to itself, the planner sorts a whole lane to find its first items where the statistics are older than the lane is
/// long: what waits comes and goes faster than they are made.
pub async fn begin(tx: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *tx).await?;
    sqlx::query!("SET LOCAL statement_timeout = '2s'").execute(&mut *tx).await?;
    sqlx::query!("SET LOCAL enable_seqscan = off").execute(&mut *tx).await?;
    sqlx::query!("SET LOCAL enable_bitmapscan = off").execute(&mut *tx).await?;
    now(tx).await
}

/// The moment of the transaction.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(db).await
}

/// A claim of an item.
#[derive(Debug, Clone)]
pub struct Held {
    /// The lease.
    pub lease: Uuid,
    /// Who has it; `None` when that process is gone.
    pub holder: Option<String>,
    /// Since when.
    pub claimed_at: DateTime<Utc>,
    /// The holder's last sign of life.
    pub renewed_at: DateTime<Utc>,
    /// When the lease ends without another.
    pub ends_at: DateTime<Utc>,
    /// When it ends whatever signs come.
    pub deadline: Option<DateTime<Utc>>,
    /// Which attempt it is.
    pub attempt: i16,
    /// Whether two thirds of the lease have passed without a sign: a sign comes each third.
    pub is_silent: bool,
}

/// The claims of an item in one of these lanes: mostly one. A lease of many stays until the last of them has ended.
pub async fn held(db: impl PgExecutor<'_>, lanes: &[i32], item: Uuid) -> sqlx::Result<Vec<Held>> {
    sqlx::query_as!(
        Held,
        r#"
        SELECT
            h.lease AS "lease!", coalesce(h.holder, w.name) AS holder, h.claimed_at AS "claimed_at!",
            t.renewed_at AS "renewed_at!", t.renewed_at + t.lease AS "ends_at!", l.deadline,
            coalesce(l.attempts[array_position(l.items, $2)], 1::smallint) AS "attempt!",
            is_silent(t.renewed_at, t.lease * 2 / 3) OR w.given_up_at IS NOT NULL AS "is_silent!"
        FROM leased_items AS h
        JOIN leases AS l ON l.id = h.lease
        JOIN lease_terms AS t ON t.id = h.lease
        LEFT JOIN workers AS w ON w.id = h.worker
        WHERE h.lane = ANY ($1) AND h.item = $2
        LIMIT 10
        "#,
        lanes,
        item,
    )
    .fetch_all(db)
    .await
}

/// When an item is due that waits for its time, and how many attempts have been made.
pub async fn scheduled(db: impl PgExecutor<'_>, item: Uuid) -> sqlx::Result<Option<(DateTime<Utc>, i16)>> {
    let row = sqlx::query!("SELECT run_at, attempt FROM scheduled WHERE item = $1 LIMIT 1", item);
    Ok(row.fetch_optional(db).await?.map(|row| (row.run_at, row.attempt)))
}

/// A transaction that keeps an item from being claimed, as far as this role may see it.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Its session's process; none of a prepared transaction.
    pub pid: Option<i32>,
    /// Since when it is open.
    pub since: Option<DateTime<Utc>>,
    /// What its session calls itself.
    pub application: Option<String>,
    /// What its session does.
    pub state: Option<String>,
}

/// The oldest transaction, not of a moment, that has locked an item which its feature has to find by itself.
pub async fn keeper(db: impl PgExecutor<'_>, item: Uuid) -> sqlx::Result<Option<Keeper>> {
    sqlx::query_as!(
        Keeper,
        r#"
        WITH waiting AS (
            SELECT xmax AS mark FROM dispatch WHERE item = $1 AND traceable
            UNION ALL
            SELECT xmax FROM scheduled WHERE item = $1 AND traceable
        )
        SELECT l.pid, a.xact_start AS "since?", nullif(a.application_name, '') AS application, a.state AS "state?"
        FROM waiting
        CROSS JOIN LATERAL lockers(waiting.mark) AS locker
        JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.transactionid = locker AND l.granted
        LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE waiting.mark::text <> '0' AND coalesce(a.xact_start < clock_timestamp() - interval '1 second', true)
        ORDER BY a.xact_start
        LIMIT 1
        "#,
        item,
    )
    .fetch_optional(db)
    .await
}

/// A process that lives.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its registration.
    pub id: Uuid,
    /// Host and process.
    pub name: String,
    /// What it can run and another may not.
    pub runs: Vec<String>,
    /// When its claim loop last went round, as of its last heartbeat.
    pub round_at: DateTime<Utc>,
    /// Whether that was too long before the heartbeat.
    pub is_behind: bool,
}

/// The processes that live.
pub async fn processes(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Process>> {
    sqlx::query_as!(
        Process,
        r#"
        SELECT id, name, runs, round_at, heartbeat - round_at > interval '10 seconds' AS "is_behind!"
        FROM workers
        WHERE given_up_at IS NULL AND NOT is_silent(heartbeat, lease)
        ORDER BY started_at
        LIMIT $1
        "#,
        LOOKED_AT,
    )
    .fetch_all(db)
    .await
}

/// What runs in a lane.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// How many.
    pub count: i64,
    /// Whether there are more.
    pub or_more: bool,
    /// By whom.
    pub by: Vec<TakenBy>,
}

/// What one process, or one remote worker, runs of a lane.
#[derive(Debug, Clone, Default)]
pub struct TakenBy {
    /// The process; `None` for a remote worker.
    pub worker: Option<Uuid>,
    /// How many.
    pub count: i64,
    /// Those that began first.
    pub first: Vec<Holder>,
}

impl Taken {
    /// What runs, from rows of what each runs.
    pub fn of(by: Vec<TakenBy>) -> Self {
        let count = by.iter().map(|by| by.count).sum();
        Self { count, or_more: count >= LOOKED_AT, by }
    }
}

impl TakenBy {
    /// What `by` runs: so many, and the first of them with their moments.
    pub fn new(
        worker: Option<Uuid>,
        by: Option<&str>,
        count: i64,
        items: Vec<Uuid>,
        since: Vec<DateTime<Utc>>,
    ) -> Self {
        let first = items.into_iter().zip(since);
        let first = first.map(|(item, since)| Holder { item, by: by.map(str::to_owned), since });
        Self { worker, count, first: first.collect() }
    }
}

/// What is before an item where it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Its place, from 1; `None` when it was not among those looked at.
    pub place: Option<i64>,
    /// How many of those before it have a higher priority.
    pub higher: i64,
    /// How many were looked at.
    pub looked_at: i64,
}

/// The place of an item of this rank in its lane, among the first that are ready there. `None` when it took too long: where
/// an old transaction keeps what was claimed from being cleared away, the way to the first is long.
pub async fn ahead(tx: &mut PgConnection, lane: i32, rank: i16, item: Uuid) -> sqlx::Result<Option<Ahead>> {
    sqlx::query!("SAVEPOINT ahead").execute(&mut *tx).await?;
    sqlx::query!("SET LOCAL statement_timeout = '1s'").execute(&mut *tx).await?;
    let found = sqlx::query!(
        r#"
        WITH first AS MATERIALIZED (
            SELECT d.rank, d.item, row_number() OVER (ORDER BY d.rank, d.seq) AS place
            FROM (
                SELECT rank, seq, item
                FROM dispatch
                WHERE lane = $1 AND rank <= $2
                ORDER BY rank, seq
                LIMIT $4
            ) AS d
        ),
        own AS (
            SELECT place FROM first WHERE item = $3 ORDER BY place LIMIT 1
        )
        SELECT
            (SELECT place FROM own) AS place,
            count(*) FILTER (WHERE rank < $2) AS "higher!",
            count(*) AS "looked_at!"
        FROM first
        "#,
        lane,
        rank,
        item,
        LOOKED_AT,
    )
    .fetch_one(&mut *tx)
    .await;
    match found {
        Ok(row) => Ok(Some(Ahead { place: row.place, higher: row.higher, looked_at: row.looked_at })),
        Err(error) if is_time_out(&error) => {
            sqlx::query!("ROLLBACK TO SAVEPOINT ahead").execute(tx).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

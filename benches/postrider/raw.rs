//! What the same work costs in plain SQL: the ceilings.
//!
//! The tables hold what the engine's must hold and no more (no partitions, no checks, one queue), the
//! statements do what the engine's must do and no more, batches are of 500, nothing runs between claim and
//! end. As in the engine the claim's commit does not wait for the disk, and everything else's does.

use super::inserts;
use super::lab::{BODY, Lab};
use super::times::Times;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, PgExecutor};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How many messages one statement takes.
pub(super) const BATCH: usize = 500;

/// Vacuumed as the engine's own dispatch table is.
const TABLES: &str = "
    CREATE TABLE messages (
        queue_id integer NOT NULL, id uuid NOT NULL, request json NOT NULL, PRIMARY KEY (queue_id, id)
    );
    CREATE TABLE dispatch (
        lane integer NOT NULL, rank smallint NOT NULL, seq bigint GENERATED ALWAYS AS IDENTITY, item uuid NOT NULL,
        PRIMARY KEY (lane, rank, seq)
    ) WITH (
        autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
    );
    CREATE TABLE leases (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, items uuid[] NOT NULL);
    CREATE TABLE outcomes (
        queue_id integer NOT NULL, id uuid NOT NULL, status text NOT NULL,
        finished_at timestamptz NOT NULL DEFAULT now(), result json, PRIMARY KEY (queue_id, id)
    );
    CREATE TABLE inserts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload json NOT NULL);
";

const INSERT: &str = "
    WITH stored AS (
        INSERT INTO messages (queue_id, id, request) SELECT 1, id, $2::json FROM unnest($1::uuid[]) AS id
    )
    INSERT INTO dispatch (lane, rank, item) SELECT 1, 0, id FROM unnest($1::uuid[]) AS id
";

const CLAIM: &str = "
    WITH due AS MATERIALIZED (
        SELECT lane, rank, seq
        FROM dispatch
        WHERE lane = 1 AND (rank, seq) >= (0, $1)
        ORDER BY rank, seq
        LIMIT 500
        FOR UPDATE SKIP LOCKED
    ),
    taken AS (
        DELETE FROM dispatch AS d
        USING due
        WHERE d.lane = due.lane AND d.rank = due.rank AND d.seq = due.seq
        RETURNING d.seq, d.item
    ),
    lease AS (
        INSERT INTO leases (items) SELECT array_agg(item) FROM taken HAVING count(*) > 0 RETURNING id
    ),
    relaxed AS (
        SELECT set_config('synchronous_commit', 'off', true)
    )
    SELECT lease.id, taken.seq, taken.item, m.request::text
    FROM relaxed, lease, taken
    JOIN messages AS m ON m.queue_id = 1 AND m.id = taken.item
";

const END: &str = "
    WITH ended AS (
        DELETE FROM leases WHERE id = $1 RETURNING id
    )
    INSERT INTO outcomes (queue_id, id, status, result)
    SELECT 1, o.id, 'COMPLETE', o.result::json
    FROM ended, unnest($2::uuid[], $3::text[]) AS o (id, result)
";

/// The tables, in a schema of their own.
pub(super) struct Raw<'a> {
    lab: &'a Lab,
    schema: String,
}

impl<'a> Raw<'a> {
    pub(super) async fn new(lab: &'a Lab) -> anyhow::Result<Self> {
        let schema = lab.schema();
        let mut connection = lab.connect(&schema).await?;
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await?;
        connection.execute(TABLES).await?;
        Ok(Self { lab, schema })
    }

    pub(super) async fn drop(self) -> anyhow::Result<()> {
        self.lab.drop_schema(&self.schema).await
    }

    /// A connection whose plans are made for tables that are not empty, as they are when it plans.
    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options = [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off")];
        Ok(PgConnection::connect_with(&self.lab.options(&self.schema).options(options)).await?)
    }

    /// What `clients` connections insert in a second, one row a commit.
    pub(super) async fn inserts(&self, clients: usize, time: Duration) -> anyhow::Result<f64> {
        const SINGLE: &str = "INSERT INTO inserts (payload) VALUES ($1::text::json)";
        inserts::rate(self.lab.url(), &self.schema, SINGLE, clients, time).await
    }

    /// What as many connections claim and end in a second, of messages that wait already.
    pub(super) async fn drain(&self, messages: usize, connections: usize) -> anyhow::Result<f64> {
        let mut first = self.connect().await?;
        for _ in 0..messages.div_ceil(BATCH) {
            insert(&mut first, BATCH).await?;
        }
        let drain = |mut connection: PgConnection| async move {
            let (mut from, mut count) = (0, 0);
            loop {
                let ended = claim_and_end(&mut connection, &mut from).await?;
                if ended == 0 {
                    return Ok(count);
                }
                count += ended;
            }
        };
        at_once(self.connections(connections).await?, drain).await
    }

    /// What as many connections insert, claim and end in a second.
    pub(super) async fn cycle(&self, time: Duration, connections: usize) -> anyhow::Result<f64> {
        let until = Instant::now() + time;
        let cycle = move |mut connection: PgConnection| async move {
            let (mut from, mut count) = (0, 0);
            while Instant::now() < until {
                insert(&mut connection, BATCH).await?;
                count += claim_and_end(&mut connection, &mut from).await?;
            }
            Ok(count)
        };
        at_once(self.connections(connections).await?, cycle).await
    }

    /// How long one message takes from the commit of its insert until another connection has claimed it,
    /// at the pace of `ticks`.
    pub(super) async fn claim_times(
        &self,
        mut ticks: tokio::time::Interval,
        count: usize,
    ) -> anyhow::Result<Times> {
        let (mut producer, mut worker) = (self.connect().await?, self.connect().await?);
        let (mut from, mut times) = (0, Times::new());
        for _ in 0..count {
            ticks.tick().await;
            insert(&mut producer, 1).await?;
            let committed = Instant::now();
            let (lease, items) = claim(&mut worker, &mut from).await?;
            times.note(committed.elapsed());
            end(&mut worker, lease, items).await?;
        }
        Ok(times)
    }

    async fn connections(&self, count: usize) -> anyhow::Result<Vec<PgConnection>> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }
}

/// Works on all connections at once; returns how much was done in a second, from the first start to the last
/// end.
pub(super) async fn at_once<C, F>(connections: Vec<C>, work: impl Fn(C) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<usize>> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks: JoinSet<anyhow::Result<usize>> = connections.into_iter().map(work).collect();
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn insert(db: impl PgExecutor<'_>, messages: usize) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = (0..messages).map(|_| Uuid::now_v7()).collect();
    sqlx::query(INSERT).bind(ids).bind(BODY).execute(db).await?;
    Ok(())
}

async fn claim_and_end(connection: &mut PgConnection, from: &mut i64) -> anyhow::Result<usize> {
    let (lease, items) = claim(&mut *connection, from).await?;
    let count = items.len();
    if count > 0 {
        end(connection, lease, items).await?;
    }
    Ok(count)
}

/// Claims from the place `from` on, and moves it; returns the lease and the items.
async fn claim(db: impl PgExecutor<'_>, from: &mut i64) -> anyhow::Result<(i64, Vec<Uuid>)> {
    let taken: Vec<(i64, i64, Uuid, String)> = sqlx::query_as(CLAIM).bind(*from).fetch_all(db).await?;
    *from = taken.iter().map(|(_, seq, ..)| seq + 1).max().unwrap_or(*from);
    let lease = taken.first().map_or(0, |(lease, ..)| *lease);
    Ok((lease, taken.into_iter().map(|(_, _, item, _)| item).collect()))
}

async fn end(db: impl PgExecutor<'_>, lease: i64, items: Vec<Uuid>) -> anyhow::Result<()> {
    let results = vec![r#"{"result":"value"}"#; items.len()];
    sqlx::query(END).bind(lease).bind(items).bind(results).execute(db).await?;
    Ok(())
}

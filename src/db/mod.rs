//! PostgreSQL: three small pools, transactions that cannot be cut in half, ids, migrations, partitions.

pub mod embedded;
pub mod ids;
pub mod migrate;
pub mod partitions;
pub mod transaction;

pub use ids::Ids;
pub use transaction::{bounded, transaction};

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor as _};
use std::sync::Arc;
use std::time::Duration;

/// One instance's database: the pools, each for one purpose so that none can starve another, and the
/// maker of ids.
#[derive(Debug, Clone)]
pub struct Database {
    /// For requests.
    pub api: PgPool,
    /// For claims, settlements, the inbox of pushes and maintenance.
    pub worker: PgPool,
    /// For heartbeats alone: a busy worker must not look dead.
    pub heartbeat: PgPool,
    /// The schema that holds this instance.
    pub schema: Arc<str>,
    /// Makes ids by the database's clock.
    pub ids: Arc<Ids>,
}

impl Database {
    /// Pools on the server that `options` name; they connect when first used.
    pub fn new(options: &PgConnectOptions, schema: &str) -> Self {
        let options = session(options.clone(), schema);
        let build = |size: u32| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(Duration::from_millis(1500))
                .acquire_slow_threshold(Duration::from_secs(1))
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    // A connection that lay idle may have lost its server since: ask, rather than let a
                    // request find out. A busy one need not pay the round trip.
                    Box::pin(async move {
                        Ok(meta.idle_for < Duration::from_millis(500) || connection.ping().await.is_ok())
                    })
                })
        };
        let named = |name: &str| options.clone().application_name(&format!("postrider {name}"));
        Self {
            api: build(8)
                .after_release(|connection, _| Box::pin(leave_clean(connection)))
                .connect_lazy_with(named("api")),
            worker: build(8).connect_lazy_with(by_key(named("worker"))),
            heartbeat: build(1).connect_lazy_with(named("heartbeat")),
            schema: schema.into(),
            ids: Arc::default(),
        }
    }

    /// Refuses a server that can lose what it has acknowledged, and sets the clock of the ids.
    ///
    /// # Errors
    /// The server cannot be reached, or runs with `fsync` or `synchronous_commit` off.
    pub async fn check(&self) -> anyhow::Result<()> {
        let row = sqlx::query!(
            r#"
            SELECT
                current_setting('fsync') AS "fsync!",
                current_setting('synchronous_commit') AS "synchronous_commit!",
                current_setting('server_version_num')::int AS "version!",
                clock_timestamp() AS "now!"
            "#
        )
        .fetch_one(&self.api)
        .await
        .context("cannot reach the database")?;
        anyhow::ensure!(row.version >= 140_000, "PostgreSQL 14 or newer is needed");
        anyhow::ensure!(
            row.fsync == "on",
            "the server runs with fsync = off: it would lose accepted messages"
        );
        anyhow::ensure!(
            row.synchronous_commit != "off",
            "the server runs with synchronous_commit = off: it would lose accepted messages"
        );
        self.ids.set_clock(row.now);
        Ok(())
    }

    /// Closes every connection.
    pub async fn close(&self) {
        futures::future::join3(self.api.close(), self.worker.close(), self.heartbeat.close()).await;
    }
}

/// What every connection of ours starts with. Bounds on time, so that one stuck session cannot hold rows
/// for ever; and the schema, since SQL names are unqualified.
pub(crate) fn session(options: PgConnectOptions, schema: &str) -> PgConnectOptions {
    options.options([
        ("search_path", schema),
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "30s"),
        // No word about a ROLLBACK outside a transaction (see leave_clean).
        ("client_min_messages", "error"),
        // Nothing we ask runs long enough to win back the 100 ms that compiling a statement takes; and the cost
        // that a plan without sequential scans is given (see by_key) looks like a statement that would.
        ("jit", "off"),
    ])
}

/// The engine's statements look up, by key, the hundreds of rows that they name, in tables that grow from
/// nothing to millions between two ANALYZEs. Whatever the statistics of the moment say, the right plan is the
/// same: an index lookup a row. A hash or a merge join would read the whole table. So it is planned once a
/// connection: planning a claim anew takes as long as the claim.
fn by_key(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_seqscan", "off"),
        ("plan_cache_mode", "force_generic_plan"),
    ])
}

/// sqlx 0.9.0 forgets a transaction whose `begin` was cancelled; the next user of the connection would
/// write into it and lose everything at its end. Transactions run where nothing cancels them
/// ([`transaction`]); this is the second line, for the pool whose users can be dropped at any await.
async fn leave_clean(connection: &mut PgConnection) -> sqlx::Result<bool> {
    #[cfg(feature = "planted-bugs")]
    if crate::planted::has(crate::planted::Bug::CutOffBegin) {
        return Ok(true);
    }
    connection.execute("ROLLBACK").await?;
    Ok(true)
}

//! PostgreSQL: three small pools, transactions that cannot be cut in half, ids, migrations, who may call SQL.

pub mod by_id;
pub mod embedded;
pub mod grants;
pub mod holdups;
pub mod ids;
pub mod migrate;
pub mod session;
pub mod transaction;

pub use ids::Ids;
pub use transaction::{bounded, transaction};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use std::sync::Arc;
use std::time::Duration;
use transaction::STATEMENT;

/// How long a request or a loop waits for a connection of its pool.
const ACQUIRE: Duration = Duration::from_millis(1500);

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
    /// For hearing the other processes, where that needs a connection of another kind; absent, one of `worker` does it.
    pub listen: Option<PgPool>,
    /// The schema that holds this instance.
    pub schema: Arc<str>,
    /// Makes ids by the database's clock.
    pub ids: Arc<Ids>,
}

impl Database {
    /// Pools on the server that `options` name; they connect when first used.
    pub fn new(options: &PgConnectOptions, schema: &str) -> Self {
        Self::within(options, schema, ACQUIRE, STATEMENT)
    }

    /// As [`Database::new`], for a person who waits: for a connection, and for each answer, at most so long.
    pub fn patient(options: &PgConnectOptions, schema: &str, patience: Duration) -> Self {
        Self::within(options, schema, patience, patience)
    }

    fn within(options: &PgConnectOptions, schema: &str, acquire: Duration, statement: Duration) -> Self {
        let options = session(options.clone(), schema, statement);
        let named = |name: &str| options.clone().application_name(&format!("postrider {name}"));
        let build = |size| build(size).acquire_timeout(acquire);
        Self {
            api: build(8).connect_lazy_with(named("api")),
            worker: build(8).connect_lazy_with(by_key(named("worker"))),
            heartbeat: build(1).connect_lazy_with(named("heartbeat")),
            listen: None,
            schema: schema.into(),
            ids: Arc::default(),
        }
    }

    /// Hears the other processes over connections of its own, which `options` name: past a pooler.
    #[must_use]
    pub fn listening_on(mut self, options: &PgConnectOptions) -> Self {
        let options = session(options.clone(), &self.schema, STATEMENT).application_name("postrider listen");
        // Two: whether sessions are shared is seen by comparing.
        self.listen = Some(build(2).idle_timeout(Duration::from_secs(10)).connect_lazy_with(options));
        self
    }

    /// Refuses a connection through which names mean another schema, or statements are those of others.
    ///
    /// # Errors
    /// Says what to do.
    pub async fn check_session(&self) -> anyhow::Result<()> {
        session::check(&self.api, &self.schema).await
    }

    /// Refuses a server that can lose what it has acknowledged, and a connection that [`Database::check_session`]
    /// refuses; sets the clock of the ids.
    ///
    /// # Errors
    /// The server cannot be reached, or runs with `fsync` or `synchronous_commit` off, or the connection will not do.
    pub async fn check(&self) -> anyhow::Result<()> {
        self.check_session().await?;
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
        let listen = async {
            if let Some(listen) = &self.listen {
                listen.close().await;
            }
        };
        futures::future::join4(self.api.close(), self.worker.close(), self.heartbeat.close(), listen).await;
    }
}

fn build(size: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE)
        .acquire_slow_threshold(Duration::from_secs(1))
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            // A connection that lay idle may have lost its server since: ask, rather than let a
            // request find out. A busy one need not pay the round trip.
            Box::pin(async move {
                Ok(meta.idle_for < Duration::from_millis(500) || connection.ping().await.is_ok())
            })
        })
}

/// What a setting with a URL names.
///
/// # Errors
/// Names the setting, and does not repeat the URL: there is a password in it.
pub fn parse(name: &str, url: &SecretString) -> anyhow::Result<PgConnectOptions> {
    url.expose_secret().parse().map_err(|_| anyhow::anyhow!("{name} is not a PostgreSQL URL"))
}

/// What every connection of ours starts with. Bounds on time, so that one stuck session cannot hold rows
/// for ever (shorter ones may stand in the URL's own options); and the schema, since SQL names are unqualified.
pub(crate) fn session(options: PgConnectOptions, schema: &str, statement: Duration) -> PgConnectOptions {
    let statement = format!("{}ms", statement.as_millis());
    let own = options.get_options().unwrap_or_default().to_owned();
    let bounds = [
        ("statement_timeout", statement.as_str()),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ];
    let bounds = bounds.into_iter().filter(|(name, _)| !own.contains(&format!("{name}=")));
    plain(options).options(bounds).options([
        ("search_path", schema),
        ("client_min_messages", "warning"),
        // Nothing we ask runs long enough to win back the 100 ms that compiling a statement takes; and the cost
        // that a plan without sequential scans is given (see by_key) looks like a statement that would.
        ("jit", "off"),
    ])
}

/// Without what sqlx starts with for servers older than 12, and poolers refuse; and without the text of statements in
/// the log, where one is tens of kilobytes that nobody can act upon. PostgreSQL's own log names slow ones.
pub(crate) fn plain(options: PgConnectOptions) -> PgConnectOptions {
    options.extra_float_digits(None).disable_statement_logging()
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

/// Has the statements of this transaction planned by the rows that they read alone, wherever those lie. Otherwise an
/// index in the order of the table looks cheap even when nearly all that it finds has to be thrown away, and a page of
/// a listing reads millions of rows of others.
pub async fn plan_by_rows(tx: &mut PgConnection) -> sqlx::Result<()> {
    let by_rows = sqlx::query!(
        "SELECT set_config('seq_page_cost', '0', true) AS seq, set_config('random_page_cost', '0', true) AS random"
    );
    by_rows.fetch_one(tx).await?;
    Ok(())
}

//! The composition root: the only file that knows every feature.

mod base;
mod exports;
mod jump;
mod outside;
mod prepared;
mod scrape;

use crate::config::Config;
use crate::db::Database;
use crate::flow::ticker::Ticker;
use crate::http::body::BodyLimits;
use crate::http::health::Readiness;
use crate::http::limits::{InFlight, Limits};
use crate::http::metrics;
use crate::http::server::{ServerLimits, serve};
use crate::http::{self, HttpState};
use crate::hub;
use crate::jobs;
use crate::jobs::routes::{HEADER_PREFIX, LONG_POLLS};
use crate::queues;
use crate::queues::access::Access;
use crate::queues::catalog::Catalog;
use crate::queues::consumer::Messages;
use crate::queues::javascript::{Pool, PoolOptions};
use crate::queues::messaging::OfQueue;
use crate::queues::metrics::Depths;
use crate::queues::native::Handler;
use crate::queues::push::Inbox;
use crate::queues::remote::RemoteMessages;
use crate::queues::routes::Queues;
use crate::queues::runners::Runners;
use crate::queues::schedules::firing::Pushes;
use crate::queues::upkeep::{Given, Upkeep};
use crate::reports::{self, routes::Reports};
use crate::worker::remote::WaitingRoom;
use crate::worker::{Running, Worker};
use anyhow::Context as _;
use base::Base;
use exports::Exports;
use futures::future::BoxFuture;
use prepared::Checked;
use scrape::{admit_readers, measure};
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most items that one process runs at a time, over all queues.
const CAPACITY: usize = 4096;
/// Requests that are worked on at a time, unless told otherwise.
const IN_FLIGHT: usize = 1024;
/// Memory for the bodies of requests, in bytes: at least this, and at least room for so many of the largest.
const BODIES: (usize, usize) = (256 << 20, 8);
/// Long polls beside them: ten thousand idle workers, and some more.
const LONG_POLLS_AT_ONCE: usize = 16_384;
/// The addresses that may wait.
const LONG_WAITS: [&str; 7] = [
    "/queues/{queue}/claim",
    LONG_POLLS[0],
    LONG_POLLS[1],
    LONG_POLLS[2],
    LONG_POLLS[3],
    LONG_POLLS[4],
    LONG_POLLS[5],
];
/// How long the rest may take that a process does once nothing runs any more.
const LAST: Duration = Duration::from_secs(5);
/// A server that starts waits at most this long until each of its loops has gone round once.
const FIRST_ROUNDS: Duration = Duration::from_secs(10);
/// A loop of the engine that has not done its duty for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Which parts of Postrider a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// The API and the worker.
    Everything,
    /// The worker alone: `postrider worker`. It needs no key to verify tokens with.
    Worker,
}

/// Postrider, before it starts.
pub struct App {
    config: Config,
    handlers: HashMap<String, Arc<dyn Handler>>,
    program: Option<PathBuf>,
    secret: Option<SecretString>,
    secret_key: Option<SecretString>,
    given: Given,
    in_flight: usize,
}

impl App {
    /// An application with these settings.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            handlers: HashMap::new(),
            program: None,
            secret: None,
            secret_key: None,
            given: Given::default(),
            in_flight: IN_FLIGHT,
        }
    }

    /// Registers the handler of queues whose definition says `{"kind": "native", "name": name}`.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.insert(name.into(), Arc::new(handler));
        self
    }

    /// Defines a queue, as `PUT /queues/{name}` does with this document, each time the program starts, unless the queue is
    /// so already. A definition that breaks a rule fails the start.
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>, definition: serde_json::Value) -> Self {
        self.given.code.push((name.into(), definition));
        self
    }

    /// The program that becomes a JavaScript child by its hidden subcommand: the `postrider` binary. Without
    /// it the process runs no JavaScript handlers.
    #[must_use]
    pub fn javascript(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Verifies tokens by this secret when the settings name no key.
    #[must_use]
    pub fn development_secret(mut self, secret: SecretString) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Encrypts at rest with this key when the settings name none.
    #[must_use]
    pub fn development_key(mut self, key: SecretString) -> Self {
        self.secret_key = Some(key);
        self
    }

    /// Loads the definitions in this directory that are not there yet.
    #[must_use]
    pub fn examples(mut self, directory: impl Into<PathBuf>) -> Self {
        self.given.examples = Some(directory.into());
        self
    }

    /// Works on at most so many requests at a time (1024), and refuses those beyond with 503 and `Retry-After`.
    #[must_use]
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// Starts on the server that `database` names; the schema is migrated already.
    ///
    /// # Errors
    /// A setting that cannot work, a database that cannot be reached or would lose messages, an address in
    /// use.
    pub async fn start(self, database: &PgConnectOptions, parts: Parts) -> anyhow::Result<Server> {
        self.prepare(parts)?.start(database).await
    }

    /// Checks the settings and takes the address, before anything is made or changed for it.
    ///
    /// # Errors
    /// A setting that cannot work, or an address in use.
    pub fn prepare(self, parts: Parts) -> anyhow::Result<Prepared> {
        let (secret, key) = (self.secret.as_ref(), self.secret_key.as_ref());
        let checked = Checked::new(&self.config, secret, key, parts == Parts::Everything)?;
        Ok(Prepared { app: self, checked })
    }
}

/// An application whose settings work and whose address is its own.
pub struct Prepared {
    app: App,
    checked: Checked,
}

impl Prepared {
    /// Starts on the server that `database` names; the schema is migrated already.
    ///
    /// # Errors
    /// A database that cannot be reached or would lose messages.
    pub async fn start(self, database: &PgConnectOptions) -> anyhow::Result<Server> {
        self.start_here(database).await
    }

    /// An `async fn` is compiled where it is awaited: without the box, with everything that runs here, once more in each
    /// application, at each of its changes.
    #[inline(never)]
    fn start_here(self, database: &PgConnectOptions) -> BoxFuture<'_, anyhow::Result<Server>> {
        Box::pin(self.start_all(database))
    }

    async fn start_all(self, database: &PgConnectOptions) -> anyhow::Result<Server> {
        let Self { app, checked } = self;
        let Checked { outbound, verifier, sealer, directory, sdk, listen_on, socket } = checked;
        let config = app.config;
        let db = prepared::open(database, &config.schema, listen_on.as_ref()).await?;
        let pool = app.program.map(|program| Pool::new(PoolOptions::new(program)));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (tracer, exports) = Exports::start(&config, &db.ids)?;
        let ids = Arc::clone(&db.ids);
        let runners = Runners::new(pool, outbound.clone(), app.handlers, directory, ids, tracer.clone());
        let runners = Arc::new(runners);
        let catalog = Arc::new(Catalog::new(sealer.clone()));

        let name = prepared::name();
        let runs = prepared::runs(&runners, sealer.as_deref());
        let mut worker = Worker::new(db.clone(), name.clone(), config.lease, CAPACITY, runs);
        let messages = Messages::new(db.clone(), Arc::clone(&catalog), Arc::clone(&runners), name);
        let settler = worker.add(Arc::new(messages));
        let pushes = db.worker.clone();
        #[cfg(feature = "planted-bugs")]
        let pushes = crate::planted::pool_of_pushes(&db).unwrap_or(pushes);
        let wake = worker.wake();
        let mut ticker = Ticker::new(db.clone(), wake.changes(), move |lane, rank| wake.ready(lane, rank));
        ticker.add(Pushes { catalog: Arc::clone(&catalog), ids: Arc::clone(&db.ids) });
        let (inbox, inbox_loop) = Inbox::new(pushes, worker.wake(), Arc::clone(&catalog));
        tasks.spawn(inbox_loop);
        let access = Access { db: db.clone(), catalog, inbox, stopper: worker.stopper() };
        runners.connect(OfQueue::of_each(access.clone()));
        let limits = BodyLimits::new(config.max_body);
        let base = Base {
            db: db.clone(),
            sealer,
            sdk,
            verifier: Arc::clone(&verifier),
            limits,
            stop: stop.clone(),
            tasks: tasks.clone(),
            tracer: tracer.clone(),
        };
        let hub =
            base.hub(&mut worker, &mut ticker, outbound, &config).await.context("cannot start the hub")?;
        let jobs = base.jobs(&mut worker, &config).await.context("cannot load the kinds of jobs")?;
        let readiness = Readiness::new(db.api.clone());
        let remote = RemoteMessages::new(Arc::clone(&access.catalog), config.lease);
        let waiting = WaitingRoom::new(remote, db.worker.clone(), worker.wake(), tasks.clone());
        let beat = readiness.watch("claims of remote workers", STUCK);
        tasks.spawn(waiting.run(stop.clone(), move || beat.beat()));
        let beat = readiness.watch("claims of jobs", STUCK);
        tasks.spawn(jobs.waiting.run(stop.clone(), move || beat.beat()));
        let queues = Queues::new(queues::routes::Parts {
            access,
            settler,
            waiting,
            wake: worker.wake(),
            runners,
            sealer: base.sealer.clone(),
            verifier: Arc::clone(&verifier),
            lease: config.lease,
            limits,
        });
        let mut upkeep = Upkeep::new(queues.clone(), config.queues_dir.clone(), app.given);
        upkeep.load().await?;

        let engine = worker.start(|name| {
            let pulse = readiness.watch(name, STUCK);
            move || pulse.beat()
        });
        tasks.spawn(upkeep.run(stop.clone()));
        tasks.spawn(ticker.run(stop.clone()));
        tasks.spawn(metrics::upkeep(stop.clone()));

        let of_queues = Depths::new(db.clone(), Arc::clone(&queues.access.catalog), engine.busy());
        let of_jobs = jobs::depths::Depths::new(db.clone(), Arc::clone(&jobs.types));
        let of_hub = hub::delivery::metrics::Depths::new(db.clone());
        let on_scrape = measure(of_queues, of_jobs, of_hub, metrics::Holdups::new(db.api.clone()));
        let on_scrape = admit_readers(on_scrape, &verifier, config.metrics);
        let state = HttpState {
            readiness: readiness.clone(),
            in_flight: in_flight(app.in_flight, config.max_body),
            on_scrape,
            origins: config.allow_origins,
            header_prefix: HEADER_PREFIX,
            tracer,
        };
        let features = jump::routes(&queues, &jobs, &hub)
            .merge(queues::routes::routes().with_state(queues))
            .merge(jobs::routes::router(jobs))
            .merge(hub::routes::routes().with_state(hub))
            .merge(reports::routes::routes().with_state(Reports::new(db.clone(), verifier)));
        let router = http::router(features, state);
        let mut address = None;
        if let Some(socket) = socket {
            let listener = prepared::listen(socket, config.listen)?;
            address = Some(listener.local_addr()?);
            let limits = ServerLimits { grace: config.grace, ..ServerLimits::default() };
            tasks.spawn(serve(listener, router, stop.clone(), limits));
        }
        // Whoever is told that it runs may use it at once. `/readyz` says what does not come to work.
        drop(tokio::time::timeout(FIRST_ROUNDS, readiness.started()).await);
        Ok(Server { address, db, engine, readiness, stop, tasks, exports, grace: config.grace })
    }
}

/// So many requests at a time, and the memory for their bodies.
fn in_flight(working: usize, max_body: usize) -> InFlight {
    let bodies = BODIES.0.max(max_body.saturating_mul(BODIES.1));
    InFlight::new(Limits { working, waiting: LONG_POLLS_AT_ONCE, long_polls: &LONG_WAITS, bodies })
}

/// A running Postrider.
pub struct Server {
    address: Option<SocketAddr>,
    #[doc(hidden)] // It is for this project's own tests.
    pub db: Database,
    engine: Running,
    readiness: Readiness,
    stop: CancellationToken,
    tasks: TaskTracker,
    exports: Exports,
    grace: Duration,
}

impl Server {
    /// Where the API listens; `None` for a worker alone.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until nothing is ready, running, overdue or unwritten. For tests and for programs that run once.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn run_until_idle(&self) -> sqlx::Result<()> {
        self.idle_here().await
    }

    /// See [`Prepared::start_here`].
    #[inline(never)]
    fn idle_here(&self) -> BoxFuture<'_, sqlx::Result<()>> {
        Box::pin(self.engine.idle())
    }

    /// Stops: accepts nothing more, claims nothing more, lets what runs finish within the grace period
    /// (`POSTRIDER_GRACE`), gives the rest back.
    pub async fn stop(self) {
        let grace = self.grace;
        self.stop_within(grace).await;
    }

    /// As [`Server::stop`], with another grace period for what runs.
    pub async fn stop_within(self, grace: Duration) {
        self.stop_here(grace).await;
    }

    /// See [`Prepared::start_here`].
    #[inline(never)]
    fn stop_here(self, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.stop_all(grace))
    }

    async fn stop_all(self, grace: Duration) {
        let deadline = tokio::time::Instant::now() + grace;
        self.readiness.stop();
        self.stop.cancel();
        self.engine.stop(grace).await;
        self.tasks.close();
        // The inbox ends when the last request that may push is gone. Whoever holds a connection then has had the time.
        let deadline = deadline.max(tokio::time::Instant::now()) + LAST;
        drop(tokio::time::timeout_at(deadline, self.tasks.wait()).await);
        self.exports.stop().await;
        drop(tokio::time::timeout_at(deadline, self.db.close()).await);
    }
}

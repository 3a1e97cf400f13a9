//! `postrider serve` and `postrider worker`: run until told to stop.

use super::database::{Database, development_key, development_secret};
use crate::app::{App, Parts, Server};
use crate::auth;
use crate::config::Config;
use crate::db::migrate::migrate;
use crate::http::trace::init_logging;
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::SecretString;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Where the shipped definitions are, seen from a checkout.
const EXAMPLES: &str = "examples";
/// How long the development token is good.
const TOKEN: Duration = Duration::from_hours(30 * 24);

/// Serves the API and runs handlers.
pub(super) async fn serve(config: Config) -> anyhow::Result<()> {
    init_logging(&config)?;
    allow_connections();
    let secret = development_secret(&config)?;
    let mut signals = Signals::new()?;
    let Some(database) = signals.unless(Database::open(&config)).await else { return Ok(()) };
    let database = database?;
    match signals.unless(start(&config, &database, secret.clone(), Parts::Everything)).await {
        Some(Ok(server)) => {
            if let Some(address) = server.address() {
                welcome(&config, &format!("http://{address}"), secret.as_ref(), &database)?;
            }
            signals.wait().await;
            tracing::info!("stopping: what runs may finish");
            server.stop().await;
            database.close().await;
            Ok(())
        }
        Some(Err(error)) => {
            database.close().await;
            Err(error)
        }
        None => {
            database.close().await;
            Ok(())
        }
    }
}

/// Every connection is a file, and a shell allows 1,024 of them where the system allows many more: as many as it does.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the number of open files, and so of connections, stays as it is");
    }
}

/// Runs handlers without serving the API.
pub(super) async fn worker(config: Config) -> anyhow::Result<()> {
    init_logging(&config)?;
    anyhow::ensure!(
        config.database_url.is_some(),
        "a worker shares a database with servers: set DATABASE_URL"
    );
    let mut signals = Signals::new()?;
    let database = Database::open(&config).await?;
    let Some(server) = signals.unless(start(&config, &database, None, Parts::Worker)).await else {
        return Ok(());
    };
    let server = server?;
    tracing::info!("working");
    signals.wait().await;
    tracing::info!("stopping: what runs may finish");
    server.stop().await;
    Ok(())
}

async fn start(
    config: &Config,
    database: &Database,
    secret: Option<SecretString>,
    parts: Parts,
) -> anyhow::Result<Server> {
    migrate(&database.options, &config.schema).await?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut app = App::new(config.clone()).javascript(program);
    if let Some(secret) = secret {
        app = app.development_secret(secret);
    }
    if let Some(key) = development_key(config)? {
        app = app.development_key(key);
    }
    if config.examples && parts == Parts::Everything && Path::new(EXAMPLES).is_dir() {
        app = app.examples(EXAMPLES);
    }
    Box::pin(app.start(&database.options, parts)).await
}

/// Tells a developer where everything is, and what to type.
fn welcome(
    config: &Config,
    url: &str,
    secret: Option<&SecretString>,
    database: &Database,
) -> anyhow::Result<()> {
    println!("\nPostrider serves {url}   (reference: {url}/docs, stop: Ctrl-C)");
    if let Some(server) = &database.embedded {
        println!("its database: psql '{}'", server.url());
    }
    let Some(secret) = secret else { return Ok(()) };
    let token = auth::sign(secret, &config.jwt, "developer", &["system_admin".to_owned()], TOKEN)?;
    println!("\nA token for development:\n{token}");
    if config.examples && Path::new(EXAMPLES).is_dir() {
        let auth = format!("-H 'Authorization: Bearer {token}'");
        let push = format!(
            "curl -sS {auth} -H 'Content-Type: application/json' -d '{{\"hello\":\"there\",\"world\":\"yes\"}}' {url}/queues/myQueue/messages"
        );
        println!("\nPush a message, read the newest one, look at its queue:");
        println!("{push}");
        println!("curl -sS {auth} '{url}/queues/myQueue/messages?limit=1'");
        println!("curl -sS {auth} {url}/queues/myQueue");
    }
    println!();
    Ok(())
}

/// The signals that end a server.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// What `work` returns, or `None` when a signal came first.
    async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.wait() => None,
            done = work => Some(done),
        }
    }
}

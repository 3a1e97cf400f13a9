//! `postrider serve` and `postrider worker`: run until told to stop.

use super::database::{Database, Place, development_key, development_secret};
use super::signals::Signals;
use crate::app::{App, Parts, Prepared, Server};
use crate::auth;
use crate::config::Config;
use crate::db::migrate::migrate;
use crate::http::trace::init_logging;
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrecy::SecretString;
use std::path::Path;
use std::time::Duration;

/// Where the shipped definitions are, seen from a checkout.
const EXAMPLES: &str = "examples";
/// How long the development token is good.
const TOKEN: Duration = Duration::from_hours(30 * 24);

/// Serves the API and runs handlers.
pub(super) async fn serve(config: Config) -> anyhow::Result<()> {
    init_logging(&config)?;
    allow_connections();
    let place = Place::of(&config)?;
    let secret = development_secret(&config)?;
    let prepared = prepare(&config, secret.clone(), Parts::Everything)?;
    let mut signals = Signals::new()?;
    let Some(database) = signals.unless(place.open(&config)).await else { return Ok(()) };
    let database = database?;
    let served = match signals.unless(start(&config, &database, prepared)).await {
        Some(Ok(server)) => {
            let told = match server.address() {
                Some(address) => welcome(&config, &format!("http://{address}"), secret.as_ref(), &database),
                None => Ok(()),
            };
            if told.is_ok() {
                signals.wait().await;
                tracing::info!("stopping: what runs may finish");
            }
            server.stop().await;
            told
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    database.close().await;
    served
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
    let place = Place::of(&config)?;
    let prepared = prepare(&config, None, Parts::Worker)?;
    let mut signals = Signals::new()?;
    let database = place.open(&config).await?;
    let Some(server) = signals.unless(start(&config, &database, prepared)).await else {
        return Ok(());
    };
    let server = server?;
    tracing::info!("working");
    signals.wait().await;
    tracing::info!("stopping: what runs may finish");
    server.stop().await;
    Ok(())
}

/// Checks the settings and takes the address: before a cluster is made or a schema migrated.
fn prepare(config: &Config, secret: Option<SecretString>, parts: Parts) -> anyhow::Result<Prepared> {
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
    app.prepare(parts)
}

async fn start(config: &Config, database: &Database, prepared: Prepared) -> anyhow::Result<Server> {
    migrate(&database.options, &config.schema).await?;
    Box::pin(prepared.start(&database.options)).await
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
    println!("\nA token for development, and lines to paste after it:\nexport TOKEN={token}");
    if config.examples && Path::new(EXAMPLES).is_dir() {
        let curl = "curl -sS -H \"Authorization: Bearer $TOKEN\"";
        println!("# push a message");
        println!(
            "{curl} -H 'Content-Type: application/json' -d '{{\"hello\":\"there\",\"world\":\"yes\"}}' {url}/queues/myQueue/messages"
        );
        println!("# read the newest one");
        println!("{curl} '{url}/queues/myQueue/messages?limit=1'");
        println!("# look at its queue");
        println!("{curl} {url}/queues/myQueue");
    }
    println!();
    Ok(())
}

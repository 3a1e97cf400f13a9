//! `postrider demo`: what Postrider does, shown end to end on a server of its own that leaves nothing behind.

mod client;
mod conversation;
mod deliveries;
mod endpoint;
mod story;
mod stream;

use super::signals::Signals;
use crate::app::{App, Parts};
use crate::config::Config;
use crate::db::embedded::{self, Options};
use crate::db::migrate::migrate;
use anyhow::Context as _;
use client::Client;
use secrecy::SecretString;
use uuid::Uuid;

/// Plays the story on a new server and takes it away again, also when it breaks off.
pub(super) async fn run() -> anyhow::Result<()> {
    let (secret, key) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    // Nothing of the environment: the demo is the same everywhere.
    let config = Config::from_lookup(|name| match name {
        "POSTRIDER_LISTEN" => Some("127.0.0.1:0".to_owned()),
        "POSTRIDER_JWT_SECRET" => Some(secret.clone()),
        "POSTRIDER_SECRET_KEY" => Some(key.clone()),
        "POSTRIDER_EXAMPLES" => Some("false".to_owned()),
        "POSTRIDER_ALLOW_NETWORKS" => Some("127.0.0.0/8".to_owned()),
        _ => None,
    })?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = std::env::temp_dir().join(format!("postrider-demo-{}", Uuid::new_v4().simple()));
    let mut options = Options::new(directory, &program);
    options.ephemeral = true;
    println!("Starting a PostgreSQL server and Postrider, for this demo alone …");
    let mut signals = Signals::new()?;
    let Some(postgres) = signals.unless(embedded::start(options)).await else { return Ok(()) };
    let postgres = postgres?;
    let played = signals.unless(Box::pin(play(&postgres, config, &secret, program))).await;
    postgres.shutdown().await;
    let Some(played) = played else { return Ok(()) };
    played?;
    println!("\nThat was all, and nothing is left of it. `postrider serve` starts a server that stays.");
    Ok(())
}

async fn play(
    postgres: &embedded::Server,
    config: Config,
    secret: &str,
    program: std::path::PathBuf,
) -> anyhow::Result<()> {
    let database = postgres.connect_options();
    migrate(&database, &config.schema).await?;
    let jwt = config.jwt.clone();
    let server = App::new(config).javascript(program).start(&database, Parts::Everything).await?;
    let address = server.address().context("the server listens nowhere")?;
    println!("It serves URL=http://{address}; $ONE stands for a token with the role one, and so on.");
    let client = Client::new(format!("http://{address}"), SecretString::from(secret), jwt)?;
    let told = async {
        story::tell(&client).await?;
        conversation::tell(&client).await?;
        deliveries::tell(&client).await
    };
    let told = told.await;
    server.stop().await;
    told
}

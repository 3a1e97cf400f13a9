//! Single INSERTs by many clients, as pgbench sends them: each a prepared statement and a commit of its own.

use super::lab::BODY;
use super::raw::at_once;
use anyhow::Context as _;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Config, NoTls, Statement};

/// A connection with one prepared statement of one text.
pub(super) struct Inserter {
    client: Client,
    statement: Statement,
}

impl Inserter {
    /// Connects and prepares `statement`.
    pub(super) async fn prepare(url: &str, schema: &str, statement: &str) -> anyhow::Result<Self> {
        let mut config: Config =
            url.parse().map_err(|_| anyhow::anyhow!("DATABASE_URL is of a form not known here"))?;
        let options = config.get_options().unwrap_or_default();
        let options = format!("{options} -c search_path={schema}");
        let (client, connection) = config
            .options(options.trim())
            .connect(NoTls)
            .await
            .context("cannot connect for single INSERTs")?;
        #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
        tokio::spawn(connection);
        let statement = client.prepare(statement).await?;
        Ok(Self { client, statement })
    }

    /// Executes the statement, and waits until it has committed.
    pub(super) async fn execute(&self, argument: &str) -> anyhow::Result<()> {
        self.client.execute(&self.statement, &[&argument]).await?;
        Ok(())
    }
}

/// How often in a second as many clients execute `statement` of a message's body.
pub(super) async fn rate(
    url: &str,
    schema: &str,
    statement: &str,
    clients: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let mut inserters = Vec::new();
    for _ in 0..clients {
        inserters.push(Inserter::prepare(url, schema, statement).await?);
    }
    let start = Instant::now();
    let insert = |inserter: Inserter| async move {
        let mut count = 0;
        while start.elapsed() < time {
            inserter.execute(BODY).await?;
            count += 1;
        }
        Ok(count)
    };
    at_once(inserters, insert).await
}

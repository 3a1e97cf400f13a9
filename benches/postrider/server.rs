//! The server that a run uses: the one that `DATABASE_URL` names, or a private one that is gone with the run.

use postrider::Config;
use postrider::internals::db::embedded::{self, Options};
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use std::path::PathBuf;

/// Our binary: the guard of the private server, and the child of JavaScript handlers.
pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_postrider");

/// A server, and what to stop at the end.
pub(super) struct Server {
    pub(super) options: PgConnectOptions,
    /// How a client that is not ours connects.
    pub(super) url: String,
    embedded: Option<embedded::Server>,
}

impl Server {
    /// The server that the settings name, or a private one in a directory of its own, both removed at the end.
    ///
    /// The directory is in `/var/tmp`, since `/tmp` may be memory, which is faster than any disk.
    pub(super) async fn apart(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            // The error must not repeat the URL: there is a password in it.
            let parsed = url.expose_secret().parse();
            let options = parsed.map_err(|_| anyhow::anyhow!("DATABASE_URL is not a PostgreSQL URL"))?;
            return Ok(Self { options, url: url.expose_secret().to_owned(), embedded: None });
        }
        let parent =
            Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
        let directory = parent.join(format!("postrider-{:08x}", rand::random::<u32>()));
        let mut options = Options::new(directory, BINARY);
        options.ephemeral = true;
        let server = embedded::start(options).await?;
        Ok(Self { options: server.connect_options(), url: server.url(), embedded: Some(server) })
    }

    pub(super) fn is_private(&self) -> bool {
        self.embedded.is_some()
    }

    /// Stops what was started.
    pub(super) async fn close(self) {
        if let Some(server) = self.embedded {
            server.shutdown().await;
        }
    }
}

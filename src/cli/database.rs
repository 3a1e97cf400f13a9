//! The database of a command: the server that `DATABASE_URL` names, or the private one.

use crate::auth;
use crate::config::Config;
use crate::db;
use crate::db::embedded::{self, Options, Server};
use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

/// A server, and what to stop at the end.
pub(super) struct Database {
    pub(super) options: PgConnectOptions,
    pub(super) embedded: Option<Server>,
}

impl Database {
    /// Connects to the server that the settings name, or starts the private one.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            return Ok(Self { options: db::parse("DATABASE_URL", url)?, embedded: None });
        }
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let server = embedded::start(Options::new(&config.data_dir, program)).await?;
        Ok(Self { options: server.connect_options(), embedded: Some(server) })
    }

    /// As [`Database::open`], but uses the private server of a `serve` that runs already.
    pub(super) async fn join(config: &Config) -> anyhow::Result<Self> {
        match config.database_url.is_none().then(|| embedded::running(&config.data_dir)).flatten() {
            Some(options) => Ok(Self { options, embedded: None }),
            None => Self::open(config).await,
        }
    }

    /// The pools of the instance on it, whatever they connect to.
    pub(super) fn pools(&self, config: &Config) -> db::Database {
        db::Database::new(&self.options, &config.schema)
    }

    /// The pools of the instance on it.
    ///
    /// # Errors
    /// Names mean another schema there, or statements those of others.
    pub(super) async fn checked_pools(&self, config: &Config) -> anyhow::Result<db::Database> {
        let db = self.pools(config);
        db.check_session().await?;
        Ok(db)
    }

    /// Stops what was started.
    pub(super) async fn close(self) {
        if let Some(server) = self.embedded {
            server.shutdown().await;
        }
    }
}

/// Says what to do when the tables are not there, or when the role may not use them.
pub(super) fn unmigrated(error: sqlx::Error) -> anyhow::Error {
    let advice = match &error {
        // Who may not use the schema does not see its tables.
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("42P01") => {
            "the schema is not there or not of this version: run `postrider migrate`; or the role of DATABASE_URL may \
             not use it: its owner may run `postrider grant ROLE --reports`"
        }
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("42501") => {
            "the role of DATABASE_URL does not own the schema; reports are for whom `postrider grant ROLE --reports` \
             let read them, everything else is for its owner"
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(advice)
}

/// The secret that signs and verifies in development: none when a key is configured.
///
/// # Errors
/// `DATABASE_URL` is set and no key is: a shared database needs a key of yours.
pub(super) fn development_secret(config: &Config) -> anyhow::Result<Option<SecretString>> {
    if config.jwt.has_key() {
        return Ok(None);
    }
    anyhow::ensure!(
        config.database_url.is_none(),
        "no key to verify tokens with: set POSTRIDER_JWT_SECRET (at least 32 bytes), \
         POSTRIDER_JWT_PUBLIC_KEY_FILE or POSTRIDER_JWKS_URL"
    );
    auth::development_secret(&config.data_dir, "jwt-secret").map(Some)
}

/// The key that encrypts at rest on the private server when none is configured.
///
/// # Errors
/// The data directory cannot be written.
pub(super) fn development_key(config: &Config) -> anyhow::Result<Option<SecretString>> {
    if config.secret_key.is_some() || config.database_url.is_some() {
        return Ok(None);
    }
    auth::development_secret(&config.data_dir, "secret-key").map(Some)
}

//! The database of a command: the server that `DATABASE_URL` names, or the private one.

use crate::auth;
use crate::config::Config;
use crate::db;
use crate::db::embedded::{self, Options, Server};
use crate::error::is_time_out;
use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

/// The file of the development secret in the data directory.
const SECRET: &str = "jwt-secret";
/// The file of the key that encrypts at rest there.
const KEY: &str = "secret-key";

/// Where the database is, before anything is connected or started.
pub(super) enum Place {
    /// The server that `DATABASE_URL` names.
    Named(Box<PgConnectOptions>),
    /// The private server of the data directory.
    Private,
}

impl Place {
    /// Where the settings say that it is.
    ///
    /// # Errors
    /// `DATABASE_URL` is no URL of PostgreSQL.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let named = config.database_url.as_ref().map(|url| db::parse("DATABASE_URL", url)).transpose()?;
        Ok(named.map_or(Self::Private, |options| Self::Named(Box::new(options))))
    }

    /// Connects to the server that the settings name, or starts the private one, which is made if it is not there:
    /// for the commands that may leave something behind.
    pub(super) async fn open(self, config: &Config) -> anyhow::Result<Database> {
        match self {
            Self::Named(options) => Ok(Database { options: *options, embedded: None }),
            Self::Private => {
                let program = std::env::current_exe().context("cannot find this program's own file")?;
                let server = embedded::start(Options::new(&config.data_dir, program)).await?;
                Ok(Database { options: server.connect_options(), embedded: Some(server) })
            }
        }
    }

    /// As [`Place::open`], but uses the private server of a `serve` that runs already.
    pub(super) async fn join_or_open(self, config: &Config) -> anyhow::Result<Database> {
        match matches!(self, Self::Private).then(|| embedded::running(&config.data_dir)).flatten() {
            Some(options) => Ok(Database { options, embedded: None }),
            None => self.open(config).await,
        }
    }

    /// As [`Place::join_or_open`], but makes no database: for the commands that use what is there.
    ///
    /// # Errors
    /// There is none, and what to do.
    pub(super) async fn join(self, config: &Config) -> anyhow::Result<Database> {
        let there = matches!(self, Self::Named(_)) || embedded::exists(&config.data_dir);
        anyhow::ensure!(there, "there is no database yet: {}", missing(config));
        self.join_or_open(config).await
    }
}

/// What to do where nothing is.
fn missing(config: &Config) -> String {
    format!(
        "DATABASE_URL is not set, and {} holds no private one. Run `postrider serve` first, which makes it, go to the \
         directory in which it runs, or set DATABASE_URL or POSTRIDER_DATA_DIR",
        config.data_dir.display()
    )
}

/// A server, and what to stop at the end.
pub(super) struct Database {
    pub(super) options: PgConnectOptions,
    pub(super) embedded: Option<Server>,
}

impl Database {
    /// The database of a command that makes none.
    pub(super) async fn join(config: &Config) -> anyhow::Result<Self> {
        Place::of(config)?.join(config).await
    }

    /// The pools of the instance on it, whatever they connect to.
    pub(super) fn pools(&self, config: &Config) -> db::Database {
        db::Database::patient(&self.options, &config.schema, config.command_timeout)
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

/// Says what to do when the tables are not there, when the role may not use them, or when the answer does not come in
/// time.
pub(super) fn advised(error: sqlx::Error) -> anyhow::Error {
    let code = match &error {
        sqlx::Error::Database(refusal) => refusal.code().map(std::borrow::Cow::into_owned),
        _ => None,
    };
    let advice = match code.as_deref() {
        // Who may not use the schema does not see its tables.
        Some("42P01") => {
            "the schema is not there or not of this version: run `postrider migrate`; or the role of DATABASE_URL may \
             not use it: its owner may run `postrider grant ROLE --reports`"
        }
        Some("42501") => {
            "the role of DATABASE_URL does not own the schema; reports are for whom `postrider grant ROLE --reports` \
             let read them, everything else is for its owner"
        }
        _ if is_time_out(&error) => "it takes longer than POSTRIDER_COMMAND_TIMEOUT",
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(advice)
}

/// The secret that signs and verifies in development, made if it is not there: none when a key is configured.
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
    auth::development_secret(&config.data_dir, SECRET).map(Some)
}

/// As [`development_secret`], but makes none.
///
/// # Errors
/// As there; or there is none, and what to do.
pub(super) fn existing_secret(config: &Config) -> anyhow::Result<Option<SecretString>> {
    if !config.jwt.has_key() && config.database_url.is_none() {
        let there = config.data_dir.join(SECRET).try_exists().unwrap_or(true);
        anyhow::ensure!(
            there,
            "there is no secret yet: no key is set, and {} holds none for development. Run `postrider serve` first, \
             which makes it, go to the directory in which it runs, or set POSTRIDER_JWT_SECRET or POSTRIDER_DATA_DIR",
            config.data_dir.display()
        );
    }
    development_secret(config)
}

/// The key that encrypts at rest: the configured one, or that of the private server, if it was made.
///
/// # Errors
/// The data directory cannot be read.
pub(super) fn existing_key(config: &Config) -> anyhow::Result<Option<SecretString>> {
    if config.secret_key.is_none() && !config.data_dir.join(KEY).try_exists().unwrap_or(true) {
        return Ok(None);
    }
    Ok(config.secret_key.clone().or(development_key(config)?))
}

/// The key that encrypts at rest on the private server when none is configured.
///
/// # Errors
/// The data directory cannot be written.
pub(super) fn development_key(config: &Config) -> anyhow::Result<Option<SecretString>> {
    if config.secret_key.is_some() || config.database_url.is_some() {
        return Ok(None);
    }
    auth::development_secret(&config.data_dir, KEY).map(Some)
}

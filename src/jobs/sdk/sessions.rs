//! Sessions: rows, so that every process knows them. Of its token only the hash is kept, and its key lies sealed.

use super::keys::Key;
use crate::error::{Error, Result};
use crate::jobs::store::sessions::{self, Row};
use crate::seal::Sealer;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgPool;
use std::time::Duration;

/// A session that nobody uses ends after this time.
pub const IDLE: Duration = Duration::from_mins(15);
/// And every one after this, counted from its login.
pub const LONGEST: Duration = Duration::from_hours(12);

/// A session that lives.
#[derive(Debug)]
pub struct Session {
    /// What names it in the database.
    pub hash: Vec<u8>,
    /// Who has logged in.
    pub username: String,
    /// With whose key.
    pub integrator: String,
    /// What signs and encrypts in it.
    pub key: Key,
    is_stale: bool,
}

/// Begins a session; returns its token.
///
/// # Errors
/// The database's; or the operating system has no random bytes.
pub async fn begin(
    db: &PgPool,
    sealer: &Sealer,
    integrator: &str,
    username: &str,
    key: &Key,
) -> Result<String> {
    let token = URL_SAFE_NO_PAD.encode(Key::random().map_err(Error::internal)?.bytes());
    let hash = hash(&token);
    let kept = sealer.seal(&key.to_base64(), &purpose(&hash)).map_err(Error::internal)?;
    sessions::begin(db, &hash, integrator, username, &kept).await?;
    Ok(token)
}

/// The session of this token; `None` if there is none, or it has ended. It is used by what its key has signed: see
/// [`Session::is_used`].
///
/// # Errors
/// The database's; 503 where its key cannot be opened.
pub async fn find(db: &PgPool, sealer: &Sealer, token: &str) -> Result<Option<Session>> {
    let hash = hash(token);
    let Some(Row { username, integrator, sealed, is_stale }) =
        sessions::find(db, &hash, IDLE, LONGEST).await?
    else {
        return Ok(None);
    };
    let opened = sealer.open(&sealed, &purpose(&hash))?;
    let key = Key::exact(opened.expose_secret());
    let key = key.ok_or_else(|| Error::internal(anyhow::anyhow!("a session's key is none")))?;
    Ok(Some(Session { hash, username, integrator, key, is_stale }))
}

impl Session {
    /// Notes that it is used, once a minute: a poll writes nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_used(&self, db: &PgPool) -> Result<()> {
        if self.is_stale {
            sessions::used(db, &self.hash).await?;
        }
        Ok(())
    }
}

/// What the key of a session is sealed for.
pub fn purpose(hash: &[u8]) -> Vec<u8> {
    [b"key of the session ".as_slice(), hash].concat()
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

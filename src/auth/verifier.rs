//! From a token to its caller: the order of the checks.

use super::claims::Rules;
use super::issuer::{Fetch, Issuer};
use super::key::Key;
use super::ring::{self, NoKey, Ring};
use super::seen::{Digest, Verified};
use super::{Caller, unauthorized};
use crate::config;
use crate::error::Result;
use anyhow::{Context, bail, ensure};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// Verifies access tokens: JWTs signed for the configured key.
///
/// A token's times are compared with this machine's clock, not the database's: issuers know neither.
pub struct Verifier {
    keys: Keys,
    rules: Rules,
}

enum Keys {
    Configured(Arc<Ring>),
    Issuer(Issuer),
    Nobody,
}

/// The two clocks of a verification: one that issuers share, one that never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Seconds since the Unix epoch.
    pub(super) unix: i64,
    pub(super) monotonic: Instant,
}

impl Now {
    pub(super) fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix: since.as_secs().try_into().unwrap_or(i64::MAX), monotonic: Instant::now() }
    }
}

impl Verifier {
    /// A verifier for the configured key, or for `development_secret` when none is configured. `fetch`
    /// gets the issuer's keys, from the first token on.
    ///
    /// # Errors
    /// Names the setting that cannot work, and says why.
    pub fn from_config(
        jwt: &config::Jwt,
        development_secret: Option<&SecretString>,
        fetch: Fetch,
    ) -> anyhow::Result<Self> {
        let keys = if let Some(secret) = &jwt.secret {
            Keys::Configured(Arc::new(Ring::configured(
                Key::from_secret(secret).context("POSTRIDER_JWT_SECRET")?,
            )))
        } else if let Some(path) = &jwt.public_key_file {
            let named = || format!("POSTRIDER_JWT_PUBLIC_KEY_FILE: {}", path.display());
            let pem = std::fs::read(path).with_context(named)?;
            Keys::Configured(Arc::new(Ring::configured(Key::from_pem(&pem).with_context(named)?)))
        } else if let Some(text) = &jwt.jwks_url {
            let url = url::Url::parse(text).with_context(|| format!("POSTRIDER_JWKS_URL: `{text}`"))?;
            ensure!(
                matches!(url.scheme(), "https" | "http"),
                "POSTRIDER_JWKS_URL: `{text}` is neither https nor http"
            );
            if url.scheme() == "http" {
                tracing::warn!("POSTRIDER_JWKS_URL is http: whoever is on the way can sign tokens");
            }
            Keys::Issuer(Issuer::new(url.into(), fetch))
        } else if let Some(secret) = development_secret {
            let key = Key::from_secret(secret).context("the development secret")?;
            Keys::Configured(Arc::new(Ring::configured(key)))
        } else {
            bail!(
                "no key to verify tokens with: set POSTRIDER_JWT_SECRET, POSTRIDER_JWT_PUBLIC_KEY_FILE or \
                 POSTRIDER_JWKS_URL"
            );
        };
        Ok(Self { keys, rules: Rules::from_config(jwt) })
    }

    /// A verifier that takes no token, for a process without an API.
    pub fn of_nobody(jwt: &config::Jwt) -> Self {
        Self { keys: Keys::Nobody, rules: Rules::from_config(jwt) }
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// [`Unauthorized`](crate::error::Error::Unauthorized) says what is wrong with the token;
    /// [`Unavailable`](crate::error::Error::Unavailable) when the issuer's keys could never be fetched.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>> {
        self.verify_at(token, Now::read()).await
    }

    /// As [`Verifier::verify`], with when the token ends, for answers that may outlive it.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify_until(&self, token: &str) -> Result<(Arc<Caller>, Option<Instant>)> {
        let now = Now::read();
        let Verified { caller, window } = self.verified_at(token, now).await?;
        let until = window.left(now.unix).and_then(|left| now.monotonic.checked_add(left));
        Ok((caller, until))
    }

    pub(super) async fn verify_at(&self, token: &str, now: Now) -> Result<Arc<Caller>> {
        self.verified_at(token, now).await.map(|verified| verified.caller)
    }

    async fn verified_at(&self, token: &str, now: Now) -> Result<Verified> {
        if token.len() > MAX_TOKEN {
            return Err(unauthorized(format!("the token is longer than {MAX_TOKEN} bytes")));
        }
        let mut ring = match &self.keys {
            Keys::Configured(ring) => Arc::clone(ring),
            Keys::Issuer(issuer) => issuer.ring(now.monotonic).await?,
            Keys::Nobody => return Err(unauthorized("there is no key to verify tokens with")),
        };
        let digest = Digest::of(token);
        if let Some(verified) = ring.seen.get(&digest) {
            verified.window.check(now.unix)?;
            return Ok(verified);
        }
        let header = ring::header(token)?;
        if let (Err(NoKey::UnknownId), Keys::Issuer(issuer)) = (ring.key(&header), &self.keys) {
            ring = issuer.refreshed_ring(now.monotonic).await?;
        }
        let claims = ring::claims(token, ring.key(&header)?)?;
        let (caller, window) = claims.admit(&self.rules, now.unix)?;
        let verified = Verified { caller: Arc::new(caller), window };
        ring.seen.insert(digest, verified.clone());
        Ok(verified)
    }

    /// Returns when no key is being fetched.
    #[cfg(test)]
    pub(super) async fn idle(&self) {
        if let Keys::Issuer(issuer) = &self.keys {
            issuer.idle().await;
        }
    }
}

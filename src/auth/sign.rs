//! Signs a token: for `postrider token`, and for the development token that a first start prints.

use super::key;
use crate::config;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::SecretString;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    roles: &'a [String],
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// An HS256 token for `subject` with `roles`, good for `ttl` from now. It carries the issuer and the
/// audience that `jwt` asks for, so that a server with the same settings accepts it.
///
/// # Errors
/// When the secret has fewer than 32 bytes, or the time is beyond what a clock can show.
pub fn sign(
    secret: &SecretString,
    jwt: &config::Jwt,
    subject: &str,
    roles: &[String],
    ttl: Duration,
) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let expires = now.checked_add(ttl).ok_or_else(|| anyhow::anyhow!("the token would never expire"))?;
    let claims = Claims {
        sub: subject,
        roles,
        iat: now.as_secs(),
        exp: expires.as_secs(),
        iss: jwt.issuer.as_deref(),
        aud: jwt.audience.as_deref(),
    };
    let key = EncodingKey::from_secret(key::strong(secret)?);
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

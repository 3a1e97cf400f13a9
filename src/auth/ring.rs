//! The keys that are trusted at one moment, and what they have verified so far.

use super::claims::Claims;
use super::key::Key;
use super::seen::Seen;
use super::unauthorized;
use crate::error::{Error, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, decode, decode_header};

/// Keys never change in place: new keys are a new ring. So a token that old keys verified is not found in
/// the new ring, however late its verification ended.
#[derive(Debug)]
pub(super) struct Ring {
    keys: Keys,
    pub(super) seen: Seen,
}

#[derive(Debug)]
enum Keys {
    /// Configured: there is no other, whatever id a token names.
    Configured(Box<Key>),
    /// Published by an issuer.
    Published(Vec<Key>),
}

/// Why there is no key for a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer may have a new one.
    UnknownId,
    /// The token names none and there is not exactly one.
    Ambiguous,
    /// The key is for another algorithm.
    Algorithm,
}

impl From<NoKey> for Error {
    fn from(why: NoKey) -> Self {
        unauthorized(match why {
            NoKey::UnknownId => "the issuer has no key with the id (kid) that the token names",
            NoKey::Ambiguous => "the token names no key (kid), and its issuer does not have exactly one",
            NoKey::Algorithm => "the token is signed with another algorithm than its key is for",
        })
    }
}

impl Ring {
    pub(super) fn configured(key: Key) -> Self {
        Self { keys: Keys::Configured(Box::new(key)), seen: Seen::default() }
    }

    pub(super) fn published(keys: Vec<Key>) -> Self {
        Self { keys: Keys::Published(keys), seen: Seen::default() }
    }

    /// The key for a token with this header. Of two published keys with the same id (RFC 7517, section 4.5
    /// allows it for different kinds of keys) it is the one for the token's algorithm.
    pub(super) fn key(&self, header: &Header) -> Result<&Key, NoKey> {
        let key = match (&self.keys, &header.kid) {
            (Keys::Configured(key), _) => key,
            (Keys::Published(keys), Some(id)) => {
                let mut same_id = keys.iter().filter(|key| key.id.as_ref() == Some(id)).peekable();
                same_id.peek().ok_or(NoKey::UnknownId)?;
                same_id.find(|key| key.algorithm == header.alg).ok_or(NoKey::Algorithm)?
            }
            (Keys::Published(keys), None) => match keys.as_slice() {
                [one] => one,
                _ => return Err(NoKey::Ambiguous),
            },
        };
        if key.algorithm == header.alg { Ok(key) } else { Err(NoKey::Algorithm) }
    }
}

const MALFORMED: &str = "the token is not a signed JWT: three parts in base64url, with a dot between them";

/// The header of a token. Nothing in it can be believed yet.
pub(super) fn header(token: &str) -> Result<Header> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        ErrorKind::Json(_) => {
            unauthorized("the token's header is not JSON that names an algorithm known here")
        }
        _ => unauthorized(MALFORMED),
    })?;
    // RFC 7515, section 4.1.11: what is critical must be understood, and no extension is.
    if header.crit.is_some() {
        return Err(unauthorized("the token demands an extension (crit) that is not known here"));
    }
    Ok(header)
}

/// The claims of a token that `key` has signed.
pub(super) fn claims(token: &str, key: &Key) -> Result<Claims> {
    let data = decode(token, &key.decoding, &key.validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => unauthorized("the signature of the token does not match"),
        ErrorKind::InvalidAlgorithm => NoKey::Algorithm.into(),
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
            unauthorized("the token's claims are not a JSON object in which each member comes once")
        }
        _ => unauthorized(MALFORMED),
    })?;
    Ok(data.claims)
}

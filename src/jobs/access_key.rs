//! Access keys: what a subscriber shows to read a job's broadcasts. Only their hash is kept.

use crate::error::{Error, Result};
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// The headers that carry a key. Clients in the field send the last.
const HEADERS: [&str; 3] = [
    "cardsavr-messaging-access-key",
    "x-cardsavr-messaging-access-key",
    "x-cardsavr-cardsavr-messaging-access-key",
];

/// A new key, 16 bytes of the system's randomness in base64, and its hash.
///
/// # Errors
/// The operating system has no random bytes.
pub fn make() -> Result<(String, Vec<u8>)> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(Error::internal)?;
    let key = STANDARD.encode(bytes);
    let hash = hash(key.as_bytes());
    Ok((key, hash))
}

/// The hash of the key that a request shows, in any of the three headers.
///
/// # Errors
/// 401 when there is none, or more than one.
pub fn shown(headers: &HeaderMap) -> Result<Vec<u8>> {
    let mut keys = HEADERS.iter().flat_map(|name| headers.get_all(*name)).map(HeaderValue::as_bytes);
    let key = keys.next().ok_or_else(refused)?;
    if keys.any(|other| other != key) {
        return Err(refused());
    }
    Ok(hash(key))
}

/// The hash of a key that was shown otherwise.
pub fn of(key: &str) -> Vec<u8> {
    hash(key.as_bytes())
}

/// 401: the same words whatever is wrong, so that nobody learns which keys there are.
pub fn refused() -> Error {
    Error::Unauthorized("this needs an access key of this job, in `cardsavr-messaging-access-key`".to_owned())
}

fn hash(key: &[u8]) -> Vec<u8> {
    digest(&SHA256, key).as_ref().to_vec()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_and_never_the_same() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_eq!(STANDARD.decode(&one.0).unwrap().len(), 16);
        assert_ne!(one, other);
    }

    #[test]
    fn any_of_the_three_headers_shows_it() {
        let (key, hash) = make().unwrap();
        let mut all = HeaderMap::new();
        for name in HEADERS {
            let headers =
                HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(&key).unwrap())]);
            assert_eq!(shown(&headers).unwrap(), hash, "{name}");
            all.extend(headers);
        }
        assert_eq!(shown(&all).unwrap(), hash);
        all.insert(HEADERS[1], HeaderValue::from_static("another"));
        assert!(shown(&all).is_err());
        assert!(shown(&HeaderMap::new()).is_err());
    }
}

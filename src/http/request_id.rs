//! The name under which a request appears in the log and in its answer.

use crate::traces::{Context, Origin};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

/// The header that carries it, both ways.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id the client (or the proxy before us) gave the request, if it cannot be mistaken for anything else in a
/// log line; otherwise a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(HEADER) {
        Some(given) if is_plain(given.as_bytes()) => given.clone(),
        _ => next(),
    }
}

/// What a request that has come in is called, and the trace that it is a part of, to be kept with what it stores.
pub fn kept(headers: &HeaderMap) -> Origin {
    let request_id = headers.get(HEADER).and_then(|name| name.to_str().ok()).map(Arc::from);
    Origin { request_id, trace: Context::of(headers) }
}

/// A new id: random for the process, counted within it, which costs less than a random one for each request.
fn next() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(rand::random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = format!("{:016x}-{:08x}", *PROCESS, COUNT.fetch_add(1, Relaxed));
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn is_plain(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &'static str) -> HeaderValue {
        of(&HeaderMap::from_iter([(HEADER, HeaderValue::from_static(id))]))
    }

    #[test]
    fn a_plain_id_is_kept() {
        assert_eq!(given("0b2c-Az_9.x:1/2+3="), "0b2c-Az_9.x:1/2+3=");
    }

    #[test]
    fn anything_else_is_replaced() {
        for id in ["", "a b", "a\"b", "a\tb", "x,y"] {
            assert_eq!(given(id).len(), 25, "{id}");
        }
        let long = HeaderValue::from_bytes(&[b'a'; 129]);
        assert!(long.is_ok_and(|long| of(&HeaderMap::from_iter([(HEADER, long)])).len() == 25));
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}

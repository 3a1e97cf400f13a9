//! `Idempotency-Key`: what a request that is sent again under its key is answered. Every route that takes one decides
//! here; the features only keep the keys.
//!
//! | the key | the answer |
//! | --- | --- |
//! | is new | what is asked for is done, and the key kept in the same transaction |
//! | came before, and the bodies say the same | the first answer again; what it made is told as it is now |
//! | came before with another body, or for something else | 409 |
//! | made something that is deleted since | 410: it is neither there nor made a second time |
//! | is held by a transaction that has not ended | 503 after a while: nobody knows yet which of these it is |
//!
//! So a key is looked up before anything is judged that may have changed since it came: a schema, the state of a job,
//! what is under way. Only where none was used before, or for another body, does a refusal stand.
//!
//! Two bodies say the same when they are the same JSON, however it is spelt: `http::canonical`. A request that is
//! refused does not use its key up.

use super::canonical;
use crate::error::{Error, Result};
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use std::time::Duration;

/// What the header `Idempotency-Key` may hold.
#[expect(dead_code, reason = "only described: no route reads it as a whole")]
#[derive(Debug, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 255, pattern = "^[!-~]([ -~]*[!-~])?$", example = "order-R123")]
pub struct IdempotencyKey(pub String);

/// A key, and the digest of what it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key itself: 1 to 255 visible ASCII characters.
    pub key: String,
    /// What the request says.
    pub digest: [u8; 32],
}

impl Key {
    /// The key of a request whose body is `body`, if it has one. `scope` names what is asked for, where the same
    /// body may ask for more than one thing under the same key.
    ///
    /// # Errors
    /// 400 when the header is sent twice, or has not 1 to 255 visible characters.
    pub fn read(headers: &HeaderMap, scope: &str, body: &RawValue) -> Result<Option<Self>> {
        let mut keys = headers.get_all("idempotency-key").iter();
        let Some(key) = keys.next() else { return Ok(None) };
        let key = key.to_str().ok().filter(|_| keys.next().is_none()).ok_or_else(wrong)?;
        Self::of(key, scope, body).map(Some)
    }

    /// A key that came another way.
    ///
    /// # Errors
    /// 400 when it has not 1 to 255 visible characters.
    pub fn of(key: &str, scope: &str, body: &RawValue) -> Result<Self> {
        let key = key.trim();
        let is_key = (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !is_key {
            return Err(wrong());
        }
        Ok(Self { key: key.to_owned(), digest: canonical::digest(scope, body.get()) })
    }

    /// Whether the request that first used the key said the same.
    ///
    /// # Errors
    /// 409 when it did not.
    pub fn compare(&self, first: &[u8]) -> Result<()> {
        if first == self.digest { Ok(()) } else { Err(another_body()) }
    }

    /// As [`Key::compare`], where only the first body was kept.
    ///
    /// # Errors
    /// 409 when it said something else.
    pub fn compare_body(&self, scope: &str, first: &RawValue) -> Result<()> {
        self.compare(&canonical::digest(scope, first.get()))
    }
}

/// What tells a JSON text from every other that says something else, for whatever `scope` names: however it is spelt.
pub fn digest(scope: &str, text: &str) -> [u8; 32] {
    canonical::digest(scope, text)
}

fn wrong() -> Error {
    Error::BadRequest("`Idempotency-Key` must be 1 to 255 visible ASCII characters, once".to_owned())
}

/// 409.
pub fn another_body() -> Error {
    Error::Conflict("this idempotency key was used with another body".to_owned())
}

/// 410: what the key made is not there any more.
pub fn deleted(what: &str) -> Error {
    Error::Gone(format!("the {what} that this idempotency key made is deleted"))
}

/// 503: a transaction of somebody else has used the key, and has not ended.
pub fn held() -> Error {
    let words = "another transaction, which has not ended, uses this idempotency key";
    Error::Unavailable(words.to_owned(), Duration::from_secs(1))
}

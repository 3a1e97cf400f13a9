//! What an administrator puts into a store, read from JSON: endpoints, mappings and parameters.
//!
//! Unknown members are refused, so that a misspelt one is not silently without effect; a member that is `null`
//! reads as absent. Where a secret stands, [`REDACTED`] is shown; put back, it means the secret that is there.

pub mod documented;
pub mod endpoint;
pub mod mapping;
pub mod names;
pub mod parameter;
pub mod secret;
pub mod shown;
pub mod signing;

pub use crate::seal::REDACTED;
pub use endpoint::PutEndpoint;
pub use parameter::PutParameter;
pub use secret::PutSecret;

use crate::auth::role;
use crate::error::{Error, MAX_VIOLATIONS, Result, Violation};
use crate::http::reader::Reader;
use serde_json::Value;

/// Reads a whole document.
pub(in crate::hub) fn read<T>(
    document: &Value,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T> {
    let (mut violations, mut found) = (Vec::new(), None);
    Reader::within(document, String::new(), &mut violations, |reader| {
        reader.null_is_absent();
        found = read(reader);
    });
    match found {
        Some(found) if violations.is_empty() => Ok(found),
        _ => Err(refused(violations)),
    }
}

fn refused(mut violations: Vec<Violation>) -> Error {
    violations.truncate(MAX_VIOLATIONS);
    Error::Invalid("the definition breaks a rule".to_owned(), violations)
}

/// Whether `name` can name a store, a mapping, an endpoint or a poller: `^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 100
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Refuses a name that is none. `of` says what it would name.
///
/// # Errors
/// 422 at `/name`.
pub fn check_name(of: &str, name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let words = "must be 1 to 100 letters, digits, `.`, `_` and `-`, and start with a letter or a digit";
    Err(Error::invalid("/name", "pattern", format!("the name of {of} {words}")))
}

/// Refuses a name that cannot be a store's.
///
/// # Errors
/// 422 at `/store`.
pub fn check_store(name: &str) -> Result<()> {
    if let Err(why) = role::check_own(name) {
        return Err(Error::invalid("/store", "pattern", format!("this name {why}")));
    }
    if is_name(name) {
        return Ok(());
    }
    let words = "must be 1 to 100 letters, digits, `.`, `_` and `-`, and start with a letter or a digit";
    Err(Error::invalid("/store", "pattern", format!("the name of a store {words}")))
}

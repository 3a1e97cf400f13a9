//! The signing secret of a queue's `http` handler: it is taken out of the definition when that is put, and lies
//! sealed beside it. What is stored of the definition, and shown, has a stand-in in its place; put back, it means the
//! secret that is there.

use super::definition::{handlers_of, with_handler};
use crate::error::{Error, Result};
use crate::http::json_text::{is, members, object, raw, to_value};
use crate::seal::{REDACTED, Sealed, Sealer, Unopened, no_key};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use serde_json::value::RawValue;

/// A secret as it was put.
#[derive(Debug)]
pub enum Secret {
    /// This one.
    New(SecretString),
    /// The one that is there.
    Kept,
}

/// A definition as it is stored and shown, and the secret that stood in it.
#[derive(Debug)]
pub struct Parted {
    /// The definition; where its secret stood, `[redacted]`.
    pub document: Box<RawValue>,
    /// What stood there.
    pub secret: Option<Secret>,
}

/// Takes the secret out of a checked definition. Of members that stand in it twice the last counts, and the others,
/// which nobody has checked, do not stay.
pub fn part(document: &RawValue) -> Parted {
    let handlers = handlers_of(document);
    let Some(handler) = handlers.last() else {
        return Parted { document: document.to_owned(), secret: None };
    };
    let sent = members(handler).unwrap_or_default();
    let Some((_, secret)) = sent.iter().rev().find(|(key, _)| is(key, "secret")) else {
        let alone = handlers.len() == 1;
        let document = if alone { document.to_owned() } else { with_handler(document, handler) };
        return Parted { document, secret: None };
    };
    let secret = match to_value(secret.get()) {
        Some(Value::String(text)) if text != REDACTED => Secret::New(SecretString::from(text)),
        _ => Secret::Kept,
    };
    let stand_in = raw(REDACTED);
    let shown =
        sent.into_iter().map(|(key, value)| (key, if is(key, "secret") { &*stand_in } else { value }));
    Parted { document: with_handler(document, &object(shown)), secret: Some(secret) }
}

/// Seals what was put for the queue `name`; a stand-in becomes the `former` secret, as it lies there.
///
/// # Errors
/// 422 when a stand-in stands for nothing, 503 when this server has no key.
pub fn seal(
    sealer: Option<&Sealer>,
    name: &str,
    secret: Option<&Secret>,
    former: Option<&Sealed>,
) -> Result<Option<Sealed>> {
    match secret {
        None => Ok(None),
        Some(Secret::Kept) => {
            let words = "there is no stored secret to be kept here";
            let former = former.ok_or_else(|| Error::invalid("/handler/secret", "secret", words))?;
            Ok(Some(former.clone()))
        }
        Some(Secret::New(secret)) => {
            let sealer = sealer.ok_or_else(|| no_key("a secret"))?;
            sealer.seal(secret.expose_secret(), &purpose(name)).map(Some).map_err(Error::Internal)
        }
    }
}

/// The secret of the queue `name`.
///
/// # Errors
/// [`Unopened`]: also when there is no key.
pub fn open(
    sealer: Option<&Sealer>,
    name: &str,
    secret: Option<&Sealed>,
) -> Result<Option<SecretString>, Unopened> {
    let Some(secret) = secret else { return Ok(None) };
    sealer.ok_or(Unopened)?.open(secret, &purpose(name)).map(Some)
}

/// What the secret of the queue `name` is sealed for.
pub fn purpose(name: &str) -> Vec<u8> {
    format!("signing secret of the queue {name}").into_bytes()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::queues::definition::Definition;
    use serde_json::json;

    #[test]
    fn a_secret_is_taken_out_and_its_stand_in_means_the_one_that_is_there() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let document = json!({"handler": {"kind": "http", "url": "https://example.com", "secret": secret}});
        assert!(Definition::read("q", &document).is_ok());
        let Parted { document: shown, secret: Some(Secret::New(taken)) } = part(&raw(&document)) else {
            panic!()
        };
        assert_eq!(taken.expose_secret(), secret);
        assert!(!shown.get().contains("MfKQ9"));
        assert!(Definition::read("q", &serde_json::from_str(shown.get()).unwrap()).is_ok());
        let again = part(&shown);
        assert!(matches!(again.secret, Some(Secret::Kept)));
        assert_eq!(again.document.get(), shown.get());
        let worker = raw(&json!({"handler": {"kind": "worker"}}));
        assert_eq!(part(&worker).document.get(), worker.get());
    }

    #[test]
    fn of_what_stands_twice_the_last_counts_and_none_stays_in_clear() {
        for (twice, kept) in [
            (r#"{"handler": {"secret": "one", "kind": "http", "s\u0065cret": "two"}}"#, true),
            (r#"{"handler": {"kind": "http", "secret": "one"}, "h\u0061ndler": {"kind": "worker"}}"#, false),
        ] {
            let parted = part(&RawValue::from_string(twice.to_owned()).unwrap());
            assert_eq!(parted.secret.is_some(), kept);
            assert!(!parted.document.get().contains("one") && !parted.document.get().contains("two"));
        }
    }
}

//! The `handler` of a definition: which of the four kinds runs the queue's messages.

use super::reader::Reader;
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

/// What a secret begins with, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";
/// What is given back in the place of a secret. It is no secret itself, so that it is refused when it is put.
const REDACTED: &str = "whsec_***";

/// What runs the messages of a queue.
#[derive(Debug, Clone)]
pub enum Handler {
    /// `{"kind": "javascript", "source": "module.exports = …"}`
    JavaScript {
        /// A CommonJS module that exports a function of the message.
        source: String,
    },
    /// `{"kind": "http", "url": "https://…", "secret"?: "whsec_…"}`
    Http {
        /// Where messages are posted to.
        url: Url,
        /// What requests are signed with, by Standard Webhooks.
        secret: Option<SecretString>,
    },
    /// `{"kind": "worker"}`: any program that claims over HTTP.
    Worker,
    /// `{"kind": "native", "name": "…"}`
    Native {
        /// The name under which a program that uses this crate registered it.
        name: String,
    },
}

impl Handler {
    /// Reads a handler put by itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation; the pointers count from the handler.
    pub fn read(document: &Value) -> Result<Self> {
        let mut violations = Vec::new();
        let mut handler = None;
        Reader::within(document, String::new(), &mut violations, |reader| handler = Self::take(reader));
        match handler {
            Some(handler) if violations.is_empty() => Ok(handler),
            _ => Err(Error::Invalid("the handler breaks a rule".to_owned(), violations)),
        }
    }

    /// Reads the members of a handler; `None` if a rule is broken, which is noted.
    pub(super) fn take(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.take("kind").map(Value::as_str) {
            Some(Some("javascript")) => {
                let source = required(reader, "source", Reader::text)?;
                Some(Self::JavaScript { source: source.to_owned() })
            }
            Some(Some("http")) => {
                let url = required(reader, "url", Reader::text);
                let url =
                    url.and_then(|text| endpoint(text).map_err(|why| reader.note("/url", "url", why)).ok());
                let secret = reader.text("secret");
                if secret.is_some_and(|text| !is_secret(text)) {
                    reader.note("/secret", "secret", "must be whsec_ and 24 to 64 bytes in base64");
                }
                Some(Self::Http { url: url?, secret: secret.map(SecretString::from) })
            }
            Some(Some("worker")) => Some(Self::Worker),
            Some(Some("native")) => Some(Self::Native { name: required(reader, "name", Reader::word)? }),
            kind => {
                let keyword = if kind.is_some() { "enum" } else { "required" };
                reader.note("/kind", keyword, "must be one of javascript, http, worker and native");
                // Without a kind, nothing says which other members are right.
                for name in ["source", "url", "secret", "name"] {
                    reader.take(name);
                }
                None
            }
        }
    }
}

/// A member that must be there.
fn required<'a, T>(
    reader: &mut Reader<'a>,
    name: &'static str,
    take: impl FnOnce(&mut Reader<'a>, &'static str) -> Option<T>,
) -> Option<T> {
    if !reader.has(name) {
        reader.note("", "required", format!("must have the property \"{name}\""));
    }
    take(reader, name)
}

/// Where a message may be posted to, as far as the text says. Which addresses the host may have is checked
/// when it is resolved.
fn endpoint(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be a URL such as https://example.com/messages")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or a password");
    }
    Ok(url)
}

fn is_secret(text: &str) -> bool {
    let key = text.strip_prefix(SECRET_PREFIX).and_then(|key| BASE64.decode(key).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

/// The definition `document` with `handler` in the place of the one it has.
pub fn with_handler(mut document: Value, handler: Value) -> Value {
    if let Value::Object(members) = &mut document {
        members.insert("handler".to_owned(), handler);
    }
    document
}

/// The definition `document` as it may be shown: without its handler's secret.
pub fn redacted(mut document: Value) -> Value {
    if let Some(secret) = document.pointer_mut("/handler/secret") {
        *secret = Value::from(REDACTED);
    }
    document
}

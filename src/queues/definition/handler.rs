//! The `handler` of a definition: which of the four kinds runs the queue's messages.

use crate::error::{Error, Result};
use crate::http::json_text::{is, members, object, raw};
use crate::http::reader::Reader;
use crate::http::signature::is_secret;
use crate::seal::REDACTED;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

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
        /// Where messages are posted to. What requests are signed with lies sealed beside the definition.
        url: Url,
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
                let source = reader.required("source", Reader::text)?;
                Some(Self::JavaScript { source: source.to_owned() })
            }
            Some(Some("http")) => {
                let url = reader.required("url", Reader::text);
                let url =
                    url.and_then(|text| endpoint(text).map_err(|why| reader.note("/url", "url", why)).ok());
                let secret = reader.text("secret");
                if secret.is_some_and(|text| text != REDACTED && !is_secret(text)) {
                    reader.note("/secret", "secret", "must be whsec_ and 24 to 64 bytes in base64");
                }
                Some(Self::Http { url: url? })
            }
            Some(Some("worker")) => Some(Self::Worker),
            Some(Some("native")) => Some(Self::Native { name: reader.required("name", Reader::word)? }),
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

/// The definition `document` with `handler` in the place of the one it has; all else stands as it was put.
pub fn with_handler(document: &RawValue, handler: &RawValue) -> Box<RawValue> {
    let members = members(document).unwrap_or_default();
    let name = raw("handler");
    let others = members.into_iter().filter(|(key, _)| !is(key, "handler"));
    object(others.chain([(&*name, handler)]))
}

/// The handler of the definition `document`, as it was put.
pub fn handler_of(document: &RawValue) -> Option<&RawValue> {
    handlers_of(document).pop()
}

/// The members of the definition `document` that are called so. Of several the last counts.
pub fn handlers_of(document: &RawValue) -> Vec<&RawValue> {
    let members = members(document).unwrap_or_default();
    members.into_iter().filter(|(key, _)| is(key, "handler")).map(|(_, handler)| handler).collect()
}

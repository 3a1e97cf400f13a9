//! Headers that an endpoint is sent beside those of the hub: published names with fixed texts, texts with places, or
//! secrets.

use super::template::Template;
use axum::http::{HeaderName, HeaderValue};

/// The most headers of an endpoint, and of a mapping.
pub const MOST: usize = 20;
/// What is said of a name that is none.
pub const WANTED: &str = "must be the name of a header";

/// Names that a request has already, or that are about the connection and not about what is sent.
const TAKEN: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-augury-token",
    "x-hub-store",
    "x-hub-test",
    "x-hub-timestamp",
    "x-hub-token",
];

/// A header of an endpoint's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// What it says.
    pub text: Text,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq)]
pub enum Text {
    /// A text with places.
    Template(Template),
    /// A secret, which is sealed.
    Secret,
}

/// A header, ready to be sent.
#[derive(Debug)]
pub struct Ready {
    /// Its name.
    pub name: HeaderName,
    /// What it says.
    pub value: Value,
}

/// What a header that is ready says.
#[derive(Debug)]
pub enum Value {
    /// A text with places.
    Template(Template),
    /// The same in every request. A secret is marked as one.
    Fixed(HeaderValue),
}

/// The name of a header that a definition may name.
///
/// # Errors
/// Why it may not.
pub fn name(text: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::try_from(text).map_err(|_| WANTED)?;
    match name.as_str() {
        "content-type" => Err("is named by content_type in the options of a mapping"),
        name if name.starts_with("webhook-") && TAKEN.contains(&name) => {
            Err("is a header of Standard Webhooks: signing_secrets send it")
        }
        name if TAKEN.contains(&name) => Err("is a header of the request itself, or of the hub's own"),
        _ => Ok(name),
    }
}

/// A secret as a header carries it.
pub fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_request_has_already_is_no_name_for_another_header() {
        for taken in TAKEN {
            assert!(name(&taken.to_ascii_uppercase()).is_err(), "{taken}");
        }
        for wrong in ["", "a b", "a:b", "é", "a\n"] {
            assert_eq!(name(wrong), Err(WANTED), "{wrong}");
        }
        for free in ["X-GitHub-Event", "Authorization", "User-Agent", "X-Hub-Signature-256", "svix-id"] {
            assert!(name(free).is_ok(), "{free}");
        }
    }
}

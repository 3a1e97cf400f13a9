//! Texts with places that each request fills: `t={timestamp},v1=` in a header, `{timestamp}.{body}` under a signature.

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderValue, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, Utc};
use std::borrow::Cow;
use url::Url;
use uuid::Uuid;

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// Which rule it breaks.
    pub keyword: &'static str,
    /// The rule, in words.
    pub words: &'static str,
}

const PLACES: Wrong = Wrong {
    keyword: "template",
    words: "must be a text whose places are {message}, {message_id}, {id}, {timestamp}, \
     {timestamp_ms}, {timestamp_iso}, {url}, {method}, {body_sha256} or {body_sha256_base64}, a digest once at most; a \
     brace that is meant as such is written twice",
};
/// The same of what is signed.
const PLACES_OVER: Wrong = Wrong {
    keyword: "template",
    words: "must be a text whose places are {body}, {message}, {message_id}, {id}, {timestamp}, \
     {timestamp_ms}, {timestamp_iso}, {url}, {method}, {body_sha256} or {body_sha256_base64}, the body or a digest of \
     it once at most; a brace that is meant as such is written twice",
};
const TOO_LONG: Wrong = Wrong { keyword: "maxLength", words: "must be at most 1000 bytes long" };
const CHARACTERS: Wrong = Wrong { keyword: "pattern", words: "must be visible ASCII characters and spaces" };
const ENDS: Wrong = Wrong {
    keyword: "pattern",
    words: "must be visible ASCII characters and spaces, none of these at the ends",
};

/// The longest text, in bytes.
const LONGEST: usize = 1000;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The message's key.
    Message,
    /// The message's id.
    MessageId,
    /// The delivery's id: the same at every attempt, another for each mapping.
    Id,
    /// When the request is made, in Unix seconds.
    Timestamp,
    /// The same in milliseconds.
    TimestampMs,
    /// The same as `2026-11-28T08:00:00Z`.
    TimestampIso,
    /// Where it goes, with its query.
    Url,
    /// Its method.
    Method,
    /// Its body.
    Body,
    /// SHA-256 of its body in hexadecimal digits.
    BodySha256,
    /// The same in base64.
    BodySha256Base64,
}

impl Place {
    /// Whether the whole body is read for it: once in a text, or a definition could have a request cost minutes.
    fn reads_body(self) -> bool {
        matches!(self, Self::Body | Self::BodySha256 | Self::BodySha256Base64)
    }

    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "message" => Self::Message,
            "message_id" => Self::MessageId,
            "id" => Self::Id,
            "timestamp" => Self::Timestamp,
            "timestamp_ms" => Self::TimestampMs,
            "timestamp_iso" => Self::TimestampIso,
            "url" => Self::Url,
            "method" => Self::Method,
            "body" => Self::Body,
            "body_sha256" => Self::BodySha256,
            "body_sha256_base64" => Self::BodySha256Base64,
            _ => return None,
        })
    }
}

/// What a request fills the places with.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The message's key.
    pub message: &'a str,
    /// The message's id.
    pub message_id: Uuid,
    /// The delivery's id.
    pub id: Uuid,
    /// When the request is made.
    pub now: DateTime<Utc>,
    /// Where it goes.
    pub url: &'a Url,
    /// Its method.
    pub method: &'a Method,
    /// Its body.
    pub body: &'a [u8],
}

impl Values<'_> {
    fn at(&self, place: Place) -> Cow<'_, [u8]> {
        let text = match place {
            Place::Body => return Cow::Borrowed(self.body),
            Place::Message => return Cow::Borrowed(self.message.as_bytes()),
            Place::Url => return Cow::Borrowed(self.url.as_str().as_bytes()),
            Place::Method => return Cow::Borrowed(self.method.as_str().as_bytes()),
            Place::MessageId => self.message_id.to_string(),
            Place::Id => self.id.to_string(),
            Place::Timestamp => self.now.timestamp().to_string(),
            Place::TimestampMs => self.now.timestamp_millis().to_string(),
            Place::TimestampIso => self.now.to_rfc3339_opts(SecondsFormat::Secs, true),
            Place::BodySha256 => hex(digest(&SHA256, self.body).as_ref()),
            Place::BodySha256Base64 => BASE64.encode(digest(&SHA256, self.body)),
        };
        Cow::Owned(text.into_bytes())
    }
}

impl Template {
    /// Reads what is signed: any text, and the body as one of its places.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn over(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST {
            return Err(TOO_LONG);
        }
        read(text).ok_or(PLACES_OVER)
    }

    /// Reads a text that a header carries: visible ASCII characters and spaces, none at its ends unless `within`
    /// something that stands around it.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn header(text: &str, within: bool) -> Result<Self, Wrong> {
        if text.len() > LONGEST {
            return Err(TOO_LONG);
        }
        if !text.is_ascii() || HeaderValue::from_str(text).is_err() {
            return Err(if within { CHARACTERS } else { ENDS });
        }
        if !within && text.trim() != text {
            return Err(ENDS);
        }
        read(text).filter(|read| !read.0.contains(&Part::Place(Place::Body))).ok_or(PLACES)
    }

    /// The body alone.
    pub fn body() -> Self {
        Self(vec![Part::Place(Place::Body)])
    }

    /// Whether it says the same in every request.
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Calls `visit` with the text, part by part.
    pub fn each(&self, values: &Values<'_>, mut visit: impl FnMut(&[u8])) {
        for part in &self.0 {
            match part {
                Part::Text(text) => visit(text.as_bytes()),
                Part::Place(place) => visit(&values.at(*place)),
            }
        }
    }

    /// The text. A body that is not UTF-8 stands in none.
    pub fn text(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        self.each(values, |part| text.push_str(&String::from_utf8_lossy(part)));
        text
    }

    /// The text of one that [says the same in every request](Self::is_fixed).
    pub fn fixed(&self) -> Option<String> {
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Place(_) => None,
        };
        self.0.iter().map(text).collect()
    }
}

/// In hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn read(text: &str) -> Option<Template> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let (name, after) = from.strip_prefix('{')?.split_once('}')?;
        let place = Place::read(name)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Place(place));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    let of_body = |part: &&Part| matches!(part, Part::Place(place) if place.reads_body());
    (parts.iter().filter(of_body).count() <= 1).then_some(Template(parts))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let url = "https://example.com/hook?a=1".parse().unwrap();
        let values = Values {
            message: "invoice.created",
            message_id: Uuid::nil(),
            id: Uuid::max(),
            now: DateTime::from_timestamp_millis(1_614_265_330_123).unwrap(),
            url: &url,
            method: &Method::PUT,
            body: b"{}",
        };
        Template::over(template).unwrap().text(&values)
    }

    #[test]
    fn each_place_is_filled_with_what_its_name_says() {
        assert_eq!(filled("v0:{timestamp}:{body}"), "v0:1614265330:{}");
        assert_eq!(filled("{timestamp_ms} {timestamp_iso}"), "1614265330123 2021-02-25T15:02:10Z");
        assert_eq!(filled("{method}{url}"), "PUThttps://example.com/hook?a=1");
        assert_eq!(filled("{message}/{message_id}"), format!("invoice.created/{}", Uuid::nil()));
        assert_eq!(filled("{id}"), Uuid::max().to_string());
        // SHA-256 of `{}`, by any program that knows it.
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(filled("{body_sha256}"), digest);
        assert_eq!(filled("{body_sha256_base64}"), "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=");
        assert_eq!(filled("{{{id}}} {{id}}"), format!("{{{}}} {{id}}", Uuid::max()));
        assert_eq!(filled(""), "");
    }

    #[test]
    fn a_place_that_nobody_knows_and_half_a_brace_are_refused() {
        for wrong in ["{}", "{ id }", "{Id}", "{id", "id}", "{body", "{{id}", "{payload.order}"] {
            assert_eq!(Template::over(wrong), Err(PLACES_OVER), "{wrong}");
        }
        assert_eq!(Template::over(&"x".repeat(LONGEST + 1)), Err(TOO_LONG));
        for twice in ["{body}{body}", "{body}{body_sha256}", "{body_sha256} {body_sha256_base64}"] {
            assert_eq!(Template::over(twice), Err(PLACES_OVER), "{twice}");
        }
    }

    #[test]
    fn a_header_carries_neither_the_body_nor_what_it_cannot_hold() {
        for wrong in ["{body}", "é", "a\nb", " a", "a ", "\u{7f}"] {
            assert!(Template::header(wrong, false).is_err(), "{wrong}");
        }
        assert!(Template::header("Bearer ", true).is_ok() && Template::header("a b", false).is_ok());
        assert_eq!(Template::header("push {{x}}", false).unwrap().fixed().as_deref(), Some("push {x}"));
        assert!(!Template::header("{id}", false).unwrap().is_fixed());
    }
}

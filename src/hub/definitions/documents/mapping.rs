//! The definition of a mapping: `{endpoint, service, messages?, parameters?, filters?, identifiers?, options?,
//! schedule?, enabled?}`.

use crate::error::Result;
use crate::http::reader::Reader;
use crate::hub::definitions::documents::read;
use crate::hub::definitions::documents::signing::{one_of, take_plain_headers};
use crate::hub::definitions::filter::{Filters, Path};
use crate::hub::definitions::mapping::{Ack, Definition, MaySet, Options, Retry, Serial, Shape};
use crate::hub::definitions::path;
use crate::hub::definitions::schedule::Schedule;
use crate::hub::key::{Pattern, WANTED_PATTERN};
use axum::http::{HeaderValue, Method};
use serde_json::Value;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// The backoff, where a definition says only one of its two numbers.
const BASE: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_hours(1);
/// The most message keys, and the most identifiers, of a mapping.
const MOST_MESSAGES: usize = 100;
const MOST_IDENTIFIERS: usize = 20;
/// The most visits in one chain of answers: it has no more hops.
const MOST_VISITS: u16 = 25;
/// The longest service path, in bytes.
const LONGEST_SERVICE: usize = 500;
/// Types of content that a payload, which is JSON, is not.
const NOT_JSON: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/"];

impl Definition {
    /// Reads a definition, and whether it is switched on.
    ///
    /// # Errors
    /// 422 with every violation; they do not repeat what was put.
    pub fn read(document: &Value) -> Result<(Self, bool)> {
        read(document, take)
    }
}

fn take(reader: &mut Reader<'_>) -> Option<(Definition, bool)> {
    let endpoint = reader.required("endpoint", Reader::word);
    let service = reader.required("service", |reader, name| {
        let text = reader.take(name)?.as_str().filter(|text| is_service(text));
        if text.is_none() {
            let words = "must be a path below the endpoint's URL, such as drop_ship, or \"\" for that itself";
            reader.note("/service", "service", words);
        }
        text.map(str::to_owned)
    });
    let messages = take_events(reader, "messages");
    let parameters = reader.words("parameters");
    let filters = Filters::read(reader);
    let identifiers = take_identifiers(reader);
    let mut options = Options::default();
    reader.object("options", |reader| options = take_options(reader));
    let mut schedule = None;
    reader.object("schedule", |reader| schedule = Schedule::read(reader));
    let enabled = reader.boolean("enabled").unwrap_or(true);
    if enabled && !reader.has("schedule") && reader.is_empty_list("messages") {
        reader.note("/messages", "minItems", "must name at least one message, for there is no schedule");
    }
    let definition = Definition {
        endpoint: endpoint?,
        service: service?,
        messages,
        parameters,
        filters,
        identifiers,
        options,
        schedule,
    };
    Some((definition, enabled))
}

fn take_identifiers(reader: &mut Reader<'_>) -> Vec<(String, Path)> {
    let mut identifiers = Vec::new();
    match reader.take("identifiers") {
        None => {}
        Some(Value::Object(members)) if members.len() <= MOST_IDENTIFIERS => {
            for (name, value) in members {
                if let Some(path) = value.as_str().and_then(Path::read) {
                    identifiers.push((name.clone(), path));
                } else {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    reader.note(&format!("/identifiers/{name}"), "path", path::WANTED);
                }
            }
        }
        Some(_) => {
            let words = format!("must be an object of at most {MOST_IDENTIFIERS} names and paths");
            reader.note("/identifiers", "type", words);
        }
    }
    identifiers
}

/// The keys of messages that a mapping takes.
pub(super) fn take_events(reader: &mut Reader<'_>, name: &'static str) -> Vec<Pattern> {
    reader.texts(name, MOST_MESSAGES, WANTED_PATTERN, Pattern::read)
}

pub(super) fn take_options(reader: &mut Reader<'_>) -> Options {
    let ack = one_of(reader, "ack", &[("strict", Ack::Strict), ("lenient", Ack::Lenient)]);
    let parameters = match reader.take("parameters").map(Value::as_str) {
        None | Some(Some("sent")) => MaySet::Sent,
        Some(Some("any")) => MaySet::Any,
        Some(_) => {
            reader.note("/parameters", "enum", "must be sent or any");
            MaySet::Sent
        }
    };
    let serial = match reader.take("serial") {
        None | Some(Value::Bool(false)) => Serial::No,
        Some(Value::Bool(true)) => Serial::All,
        Some(value) => value.as_str().and_then(Path::read).map_or_else(
            || {
                reader.note(
                    "/serial",
                    "path",
                    format!("must be true, false, or a path: it {}", path::WANTED),
                );
                Serial::No
            },
            Serial::By,
        ),
    };
    let mut retry = None;
    reader.object("retry", |reader| {
        let base = reader.duration("base", MILLISECOND..=DAY);
        let cap = reader.duration("cap", MILLISECOND..=7 * DAY);
        if let (Some(base), Some(cap)) = (base, cap)
            && base > cap
        {
            reader.note("/cap", "minimum", "must not be shorter than base");
        }
        // The one that is absent moves out of the way of the other.
        let base = base.unwrap_or_else(|| BASE.min(cap.unwrap_or(BASE)));
        retry = Some(Retry { base, cap: cap.unwrap_or_else(|| CAP.max(base)) });
    });
    let limits_responses = reader.has("allow_responses");
    let allowed = take_events(reader, "allow_responses");
    Options {
        ack,
        retries_allowed: reader.boolean("retries_allowed").unwrap_or(true),
        max_attempts: reader.integer("max_attempts", 1..=1_000_000),
        max_age: reader.duration("max_age", SECOND..=3660 * DAY),
        retry,
        serial,
        allow_responses: limits_responses.then_some(allowed),
        revisit: reader.integer("revisit", 1..=MOST_VISITS).unwrap_or(1),
        timeout: reader.duration("timeout", MILLISECOND..=Duration::from_hours(1)),
        parameters,
        shape: take_shape(reader),
    }
}

fn take_shape(reader: &mut Reader<'_>) -> Shape {
    let methods = [("POST", Method::POST), ("PUT", Method::PUT), ("PATCH", Method::PATCH)];
    let methods: Vec<(&str, &Method)> = methods.iter().map(|(name, method)| (*name, method)).collect();
    let method = one_of(reader, "method", &methods).cloned();
    let content_type = reader.text("content_type").and_then(|text| {
        let value = content_type(text);
        if value.is_none() {
            let words = "must be a media type of JSON, such as application/json; charset=utf-8";
            reader.note("/content_type", "content_type", words);
        }
        value
    });
    Shape { method, content_type, headers: take_plain_headers(reader) }
}

/// A media type, unless it says of a payload that it is none of JSON.
fn content_type(text: &str) -> Option<HeaderValue> {
    let (kind, _) = text.split_once(';').unwrap_or((text, ""));
    let token = |part: &str| {
        let other = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(other)
    };
    let named = kind.trim_end().split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
    let other = NOT_JSON.iter().any(|other| text.to_ascii_lowercase().starts_with(other));
    let fits = named && !other && text.is_ascii() && text.len() <= 100 && text.trim() == text;
    HeaderValue::from_str(text).ok().filter(|_| fits)
}

/// Whether `text` is a path that stays below the endpoint's URL.
fn is_service(text: &str) -> bool {
    let path = text.split('?').next().unwrap_or_default();
    text.len() <= LONGEST_SERVICE
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'#'))
        && !path.split('/').any(|step| {
            let step = step.to_ascii_lowercase().replace("%2e", ".");
            step == ".." || step == "."
        })
}

//! The definition of a mapping: `{endpoint, service, messages?, parameters?, filters?, identifiers?, options?,
//! schedule?, enabled?}`.

use crate::error::Result;
use crate::http::reader::Reader;
use crate::hub::definitions::documents::read;
use crate::hub::definitions::filter::{Filters, Path};
use crate::hub::definitions::mapping::{Ack, Definition, MaySet, Options, Retry, Serial};
use crate::hub::definitions::path;
use crate::hub::definitions::schedule::Schedule;
use crate::hub::key::Pattern;
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
const PATTERN: &str = "must be a message key such as order:new, or order:* for all that begin so";

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
        let text = reader.text(name)?;
        if !is_service(text) {
            reader.note("/service", "service", "must be a path below the endpoint's URL, such as drop_ship");
            return None;
        }
        Some(text.to_owned())
    });
    let messages = reader.texts("messages", MOST_MESSAGES, PATTERN, Pattern::read);
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

fn take_options(reader: &mut Reader<'_>) -> Options {
    let ack = match reader.take("ack").map(Value::as_str) {
        None | Some(Some("strict")) => Ack::Strict,
        Some(Some("lenient")) => Ack::Lenient,
        Some(_) => {
            reader.note("/ack", "enum", "must be strict or lenient");
            Ack::Strict
        }
    };
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
    let allowed = reader.texts("allow_responses", MOST_MESSAGES, PATTERN, Pattern::read);
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
    }
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

//! Schedules on their way in: a document by a name, or a whole set of them.

use super::schedule::Schedule;
use crate::error::{Error, MAX_VIOLATIONS, Result, Violation};
use crate::http::json_text::{is, members, object, to_string, to_value};
use crate::http::reader::Reader;
use crate::http::state_member::stateless;
use crate::queues::schema::CompiledSchema;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;

/// The member of a definition, and of the body that puts a whole set.
pub const MEMBER: &str = "schedules";
/// The most schedules of one queue.
pub const MOST: usize = 1000;
/// The largest message of a schedule, in bytes: hundreds are pushed in one statement.
const LARGEST: usize = 64 << 10;
/// The longest name.
const LONGEST: usize = 100;

/// A schedule with its name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The document as it was put, without what it said of how the schedule did.
    pub definition: Box<RawValue>,
    /// Its message, byte for byte.
    pub message: Box<RawValue>,
    /// What the document says beside that.
    pub schedule: Schedule,
}

/// Whether a schedule may have this name.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.len() <= LONGEST
}

/// Reads one schedule.
///
/// # Errors
/// 422 with every violation.
pub fn read(name: &str, document: &RawValue) -> Result<Entry> {
    let mut violations = Vec::new();
    if !is_name(name) {
        violations.push(misnamed(""));
    }
    let entry = read_one(name, document, "", &mut violations);
    whole(entry, violations)
}

/// Reads the body that puts a whole set: `{"schedules": {…}}`.
///
/// # Errors
/// 422 with every violation.
pub fn read_body(body: &RawValue) -> Result<Vec<Entry>> {
    let mut violations = Vec::new();
    let value = to_value(body.get()).unwrap_or_default();
    Reader::within(&value, String::new(), &mut violations, |reader| {
        reader.required(MEMBER, |reader, name| reader.take(name).map(drop));
    });
    let set = read_member(body, &mut violations).unwrap_or_default();
    whole(Some(set), violations)
}

/// Reads the set in the member `schedules` of a document, if it has one; what breaks a rule is noted.
pub fn read_member(document: &RawValue, violations: &mut Vec<Violation>) -> Option<Vec<Entry>> {
    let set = members(document)?.into_iter().rev().find(|(key, _)| is(key, MEMBER)).map(|(_, set)| set)?;
    let at = format!("/{MEMBER}");
    let Some(entries) = members(set) else {
        violations.push(Violation::new(at, "type", "must be an object of schedules by their names"));
        return Some(Vec::new());
    };
    if entries.len() > MOST {
        let words = format!("must have at most {MOST} schedules");
        violations.push(Violation::new(at, "maxProperties", words));
        return Some(Vec::new());
    }
    let (mut read, mut seen) = (Vec::with_capacity(entries.len()), HashSet::new());
    for (key, document) in entries {
        let name = to_string(key).unwrap_or_default();
        let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        if !is_name(&name) {
            violations.push(misnamed(&at));
        } else if !seen.insert(name.clone()) {
            violations.push(Violation::new(at, "uniqueItems", "is there twice"));
            continue;
        }
        read.extend(read_one(&name, document, &at, violations));
    }
    Some(read)
}

/// The document without its member `schedules`; all else stands as it was put.
pub fn without_member(document: &RawValue) -> Box<RawValue> {
    let members = members(document).unwrap_or_default();
    if !members.iter().any(|(key, _)| is(key, MEMBER)) {
        return document.to_owned();
    }
    object(members.into_iter().filter(|(key, _)| !is(key, MEMBER)))
}

/// Validates the messages of schedules by the queue's schema; the pointers count from below `at`, followed by the name
/// where there are many.
///
/// # Errors
/// 422 with every violation.
pub async fn check(schema: Option<&Arc<CompiledSchema>>, entries: &[Entry], at: Option<&str>) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    let mut violations = Vec::new();
    for entry in entries {
        match schema.validate_text(&entry.message).await {
            Ok(()) => {}
            Err(Error::Invalid(_, found)) => {
                let below = at.map_or_else(String::new, |at| format!("{at}/{}", entry.name));
                violations.extend(found.into_iter().map(|violation| Violation {
                    pointer: format!("{below}/message{}", violation.pointer),
                    ..violation
                }));
            }
            Err(error) => return Err(error),
        }
        if violations.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    whole(Some(()), violations)
}

fn read_one(name: &str, document: &RawValue, at: &str, violations: &mut Vec<Violation>) -> Option<Entry> {
    // Whichever way it comes, it may be what a server answered.
    let stateless = stateless(document);
    let document = stateless.as_deref().unwrap_or(document);
    let value = to_value(document.get()).unwrap_or_default();
    let mut schedule = None;
    Reader::within(&value, at.to_owned(), violations, |reader| schedule = Schedule::read(reader));
    let message = members(document)?
        .into_iter()
        .rev()
        .find(|(key, _)| is(key, "message"))
        .map(|(_, message)| message)?;
    if message.get().len() > LARGEST {
        let words = format!("must have at most {LARGEST} bytes");
        violations.push(Violation::new(format!("{at}/message"), "maxLength", words));
    }
    let (name, definition, message) = (name.to_owned(), document.to_owned(), message.to_owned());
    Some(Entry { name, definition, message, schedule: schedule? })
}

fn misnamed(at: &str) -> Violation {
    let words = "the name of a schedule is 1 to 100 letters, digits, `.`, `_` and `-`, and starts with a letter or a digit";
    Violation::new(at, "pattern", words)
}

fn whole<T>(read: Option<T>, mut violations: Vec<Violation>) -> Result<T> {
    match read {
        Some(read) if violations.is_empty() => Ok(read),
        _ => {
            violations.truncate(MAX_VIOLATIONS);
            Err(Error::Invalid("the schedule breaks a rule".to_owned(), violations))
        }
    }
}

//! Reads what an endpoint answered: the four shapes in which real ones acknowledge, and all optional members.
//!
//! ```json
//! {"message_id": "…"}
//! {"message_id": "…", "messages": [{"message": "order:new", "payload": {}, "delay": 5}]}
//! {"message_id": "…", "message": "product:in_stock", "payload": {}}
//! [{"message_id": "…", "message": "order:import", "payload": {}}]
//! ```
//! Beside them: `notifications`, `parameters`, `delay`, `update_url`, `error`. A member of another form than it
//! should have does not undo an acknowledgement: it is left out, or kept aside with a reason.

use super::linked::named;
use crate::http::json_text::{depth, is, members, to_string};
use crate::hub::key::{RESERVED, is_key, is_reserved};
use crate::hub::notices::log_entry::{Level, Note};
use serde_json::value::RawValue;
use std::time::Duration;
use uuid::Uuid;

/// No answer puts anything off longer than this.
const LONGEST_DELAY: Duration = Duration::from_hours(24 * 366);
/// The most characters of a key, as the table has it.
const LONGEST_KEY: usize = 255;

/// What an answer says.
#[derive(Debug, Default)]
pub struct Answer {
    ids: Vec<String>,
    /// Messages to be stored and routed.
    pub children: Vec<Child>,
    /// How many elements of `messages` are no messages.
    pub unread: usize,
    /// What it has to say to people beside the messages: `notifications`.
    pub notifications: Vec<Child>,
    /// Parameters to be stored.
    pub parameters: Vec<(String, Box<RawValue>)>,
    /// When to ask again.
    pub delay: Option<Duration>,
    /// Where to ask again.
    pub update_url: Option<String>,
    /// What a failing endpoint says of it.
    pub error: Option<String>,
}

/// A message in an answer.
#[derive(Debug)]
pub struct Child {
    /// Its key.
    pub key: String,
    /// Its payload, as it was sent.
    pub payload: Box<RawValue>,
    /// How long it waits before it is routed.
    pub delay: Duration,
    /// Why it cannot be routed.
    pub parked: Option<String>,
}

/// Why a body says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JSON, or neither an object nor an array.
    #[error("the answer is not a JSON object or array")]
    NotJson,
    /// It nests deeper than anybody means.
    #[error("the answer nests too deep")]
    TooDeep,
}

impl Answer {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable::NotJson)?;
        let text = text.trim_start_matches('\u{feff}');
        depth(text).map_err(|_| Unreadable::TooDeep)?;
        let whole: &RawValue = serde_json::from_str(text).map_err(|_| Unreadable::NotJson)?;
        let mut answer = Self::default();
        if let Some(members) = members(whole) {
            answer.element(&members);
        } else {
            let elements: Vec<&RawValue> =
                serde_json::from_str(whole.get()).map_err(|_| Unreadable::NotJson)?;
            for element in elements {
                match members(element) {
                    Some(members) => answer.element(&members),
                    None => answer.unread += 1,
                }
            }
        }
        Ok(answer)
    }

    /// Whether it acknowledges this message.
    pub fn acknowledges(&self, id: Uuid) -> bool {
        self.ids.iter().any(|said| Uuid::parse_str(said.trim()).is_ok_and(|said| said == id))
    }

    /// Whether it names any message, ours or another.
    pub fn names_a_message(&self) -> bool {
        !self.ids.is_empty()
    }

    /// Reads the members of the one object, or of one element of the array.
    fn element(&mut self, members: &[(&RawValue, &RawValue)]) {
        let member = |name: &str| find(members, name);
        self.ids.extend(member("message_id").and_then(string));
        self.error = self.error.take().or_else(|| member("error").and_then(words));
        for message in member("messages").map(list).unwrap_or_default() {
            self.child(message);
        }
        for notification in member("notifications").map(list).unwrap_or_default() {
            self.notifications.extend(notice(notification));
        }
        self.parameters.extend(member("parameters").map(named).unwrap_or_default());
        if let Some(key) = member("message").and_then(string) {
            self.keep(&key, member("payload"), member("delay"));
        } else {
            self.delay = self.delay.or_else(|| member("delay").and_then(seconds));
            self.update_url = self.update_url.take().or_else(|| member("update_url").and_then(string));
        }
    }

    fn child(&mut self, message: &RawValue) {
        let members = members(message).unwrap_or_default();
        let member = |name: &str| find(&members, name);
        match member("message").and_then(string) {
            Some(key) => self.keep(&key, member("payload"), member("delay")),
            None => self.unread += 1,
        }
    }

    fn keep(&mut self, key: &str, payload: Option<&RawValue>, delay: Option<&RawValue>) {
        if key.is_empty() {
            self.unread += 1;
            return;
        }
        let payload = payload.filter(|payload| payload.get() != "null").map_or_else(empty, ToOwned::to_owned);
        let parked = if !is_key(key) {
            Some("the key is not a message key such as order:new or invoice.created".to_owned())
        } else if is_reserved(key) {
            Some(RESERVED.to_owned())
        } else if members(&payload).is_none() {
            Some("the payload is not an object".to_owned())
        } else {
            None
        };
        let key = key.chars().take(LONGEST_KEY).collect();
        let delay = delay.and_then(seconds).unwrap_or_default();
        self.children.push(Child { key, payload, delay, parked });
    }
}

impl Child {
    /// What it says to people, if it is a notification.
    pub fn note(&self) -> Option<Note> {
        note(&self.key, &self.payload)
    }
}

/// What a message of this key says to people, if it is a notification.
pub fn note(key: &str, payload: &RawValue) -> Option<Note> {
    let level = Level::of(key.strip_prefix("notification:")?)?;
    let members = members(payload).unwrap_or_default();
    let member = |name: &str| find(&members, name).and_then(words);
    // What has no subject and no description says it in a word of its own.
    let mut said = ["summary", "result"].into_iter().filter_map(member);
    let subject = member("subject").or_else(|| said.next()).unwrap_or_else(|| key.to_owned());
    let description = member("description").or_else(|| said.next()).unwrap_or_default();
    Some(Note { level, subject, description, reference: (member("reference_type"), member("reference_id")) })
}

/// An element of `notifications` as the message that it is too.
fn notice(notification: &RawValue) -> Option<Child> {
    let members = members(notification)?;
    let level = find(&members, "level").and_then(words).filter(|word| !word.trim().is_empty());
    // A word that nobody knows is worth a look.
    let level = level.map_or(Level::Info, |word| Level::of(&word).unwrap_or(Level::Warn));
    let mut payload = String::from("{");
    for (key, value) in members.iter().filter(|(key, _)| !is(key, "level")) {
        let comma = if payload.len() > 1 { "," } else { "" };
        payload.extend([comma, key.get(), ":", value.get()]);
    }
    payload.push('}');
    let payload = RawValue::from_string(payload).ok()?;
    Some(Child {
        key: format!("notification:{}", level.name()),
        payload,
        delay: Duration::ZERO,
        parked: None,
    })
}

/// The last member of this name, as parsers commonly have it.
fn find<'a>(members: &[(&'a RawValue, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    members.iter().rev().find(|(key, _)| is(key, name)).map(|(_, value)| *value)
}

/// A string as text that PostgreSQL can keep.
fn string(value: &RawValue) -> Option<String> {
    to_string(value).map(|text| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
}

/// A string as it is, another value as its text, null as nothing.
fn words(value: &RawValue) -> Option<String> {
    string(value).or_else(|| Some(value.get().to_owned()).filter(|text| text != "null"))
}

/// The elements of a list; one alone may stand without it.
fn list(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_else(|_| match value.get() {
        "null" => Vec::new(),
        _ => vec![value],
    })
}

/// A number of seconds, as a number or in a string; what is less than nothing is nothing.
fn seconds(value: &RawValue) -> Option<Duration> {
    let seconds: f64 = words(value)?.trim().parse().ok()?;
    let delay = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST_DELAY).min(LONGEST_DELAY);
    // PostgreSQL's intervals know no less than microseconds, and nobody means less than milliseconds.
    Some(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

//! Reads an object of a definition member by member, and notes everything that breaks a rule.

use crate::error::Violation;
use crate::queues::schema::MAX_VIOLATIONS;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest role, client id or name of a native handler, in characters.
const MAX_WORD: usize = 100;

/// An object whose members are taken one by one. A member that breaks a rule is noted and reads as absent;
/// one that nobody took is noted as unknown.
pub(in crate::queues) struct Reader<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    violations: &'a mut Vec<Violation>,
}

impl<'a> Reader<'a> {
    /// Reads `value`, at `pointer`, which must be an object.
    pub(in crate::queues) fn within(
        value: &Value,
        pointer: String,
        violations: &mut Vec<Violation>,
        read: impl FnOnce(&mut Reader<'_>),
    ) {
        let Value::Object(members) = value else {
            violations.push(Violation::new(pointer, "type", "must be an object"));
            return;
        };
        let mut reader = Reader { members, pointer, known: Vec::new(), violations };
        read(&mut reader);
        let Reader { pointer, known, .. } = reader;
        for name in members.keys().filter(|name| !known.contains(&name.as_str())).take(MAX_VIOLATIONS) {
            let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            violations.push(Violation::new(pointer, "additionalProperties", "is not known here"));
        }
    }

    /// Notes a violation at the pointer `below` this object.
    pub(in crate::queues) fn note(&mut self, below: &str, keyword: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(format!("{}{below}", self.pointer), keyword, message));
    }

    /// Whether the member is there.
    pub(in crate::queues) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The member as it is, if it is there.
    pub(in crate::queues) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.members.get(name)
    }

    /// A member that must be an object.
    pub(in crate::queues) fn object(&mut self, name: &'static str, read: impl FnOnce(&mut Reader<'_>)) {
        if let Some(value) = self.take(name) {
            Reader::within(value, format!("{}/{name}", self.pointer), self.violations, read);
        }
    }

    /// A member that must be `true` or `false`.
    pub(in crate::queues) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if !value.is_boolean() {
            self.note(&format!("/{name}"), "type", "must be true or false");
        }
        value.as_bool()
    }

    /// A member that must be an integer in a range.
    pub(in crate::queues) fn integer<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let value = self.take(name)?;
        let integer = value.as_i64().and_then(|integer| T::try_from(integer).ok());
        let integer = integer.filter(|integer| range.contains(integer));
        if integer.is_none() {
            let (keyword, (from, to)) =
                (if value.is_number() { "range" } else { "type" }, (range.start(), range.end()));
            self.note(&format!("/{name}"), keyword, format!("must be an integer from {from} to {to}"));
        }
        integer
    }

    /// A member that must be a text, not an empty one.
    pub(in crate::queues) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.take(name)?;
        let text = value.as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.note(&format!("/{name}"), "type", "must be a text that is not empty");
        }
        text
    }

    /// A member that must be a word, see [`is_word`].
    pub(in crate::queues) fn word(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        let word = value.as_str().filter(|text| is_word(text));
        if word.is_none() {
            self.note(&format!("/{name}"), "word", NOT_A_WORD);
        }
        word.map(str::to_owned)
    }

    /// A member that must be a list of words.
    pub(in crate::queues) fn words(&mut self, name: &'static str) -> Vec<String> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.note(&format!("/{name}"), "type", "must be a list");
            return Vec::new();
        };
        let mut words = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_str() {
                Some(text) if is_word(text) => words.push(text.to_owned()),
                _ => self.note(&format!("/{name}/{index}"), "word", NOT_A_WORD),
            }
        }
        words
    }

    /// A member that must be a duration as text, such as `30s` or `1h30m`, in whole milliseconds.
    pub(in crate::queues) fn duration(
        &mut self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = self.take(name)?;
        let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        let Some(duration) = duration else {
            self.note(
                &format!("/{name}"),
                "duration",
                "must be a duration as text, such as \"30s\" or \"1h30m\"",
            );
            return None;
        };
        if duration.subsec_nanos() % 1_000_000 != 0 {
            self.note(&format!("/{name}"), "duration", "must not be finer than a millisecond");
            return None;
        }
        if !range.contains(&duration) {
            let (from, to) =
                (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
            self.note(&format!("/{name}"), "range", format!("must lie between {from} and {to}"));
            return None;
        }
        Some(duration)
    }
}

const NOT_A_WORD: &str =
    "must be a simple text: 1 to 100 characters, none of them a control character, no space at the ends";

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().count() <= MAX_WORD
        && !text.chars().any(char::is_control)
}

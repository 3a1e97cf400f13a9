//! Reads an object of a definition member by member, and notes everything that breaks a rule.

use crate::error::{MAX_VIOLATIONS, Violation};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest word, in characters: a role, a client id, the name of a handler or of a parameter.
const MAX_WORD: usize = 100;

/// An object whose members are taken one by one. A member that breaks a rule is noted and reads as absent;
/// one that nobody took is noted as unknown.
pub struct Reader<'a> {
    members: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
    null_is_absent: bool,
    violations: &'a mut Vec<Violation>,
}

impl<'a> Reader<'a> {
    /// Reads `value`, at `pointer`, which must be an object.
    pub fn within(
        value: &Value,
        pointer: String,
        violations: &mut Vec<Violation>,
        read: impl FnOnce(&mut Reader<'_>),
    ) {
        let Value::Object(members) = value else {
            violations.push(Violation::new(pointer, "type", "must be an object"));
            return;
        };
        let mut reader = Reader { members, pointer, known: Vec::new(), null_is_absent: false, violations };
        read(&mut reader);
        let Reader { pointer, known, .. } = reader;
        for name in members.keys().filter(|name| !known.contains(&name.as_str())).take(MAX_VIOLATIONS) {
            let pointer = format!("{pointer}/{}", token(name));
            violations.push(Violation::new(pointer, "additionalProperties", "is not known here"));
        }
    }

    /// From here on a member that is `null` reads as absent, in nested objects too.
    pub fn null_is_absent(&mut self) {
        self.null_is_absent = true;
    }

    /// Notes a violation at the pointer `below` this object.
    pub fn note(&mut self, below: &str, keyword: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(format!("{}{below}", self.pointer), keyword, message));
    }

    /// Whether the member is there.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !(self.null_is_absent && value.is_null()))
    }

    /// The member as it is, if it is there.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.members.get(name).filter(|value| !(self.null_is_absent && value.is_null()))
    }

    /// The member as it is, if it is there, which somebody else has to take.
    pub fn peek(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !(self.null_is_absent && value.is_null()))
    }

    /// The member as it is, `null` included.
    pub fn take_or_null(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.members.get(name)
    }

    /// A member that must be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        take: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(name) {
            self.note("", "required", format!("must have the property \"{name}\""));
        }
        take(self, name)
    }

    /// A member that must be an object.
    pub fn object(&mut self, name: &'static str, read: impl FnOnce(&mut Reader<'_>)) {
        if let Some(value) = self.take(name) {
            self.nested(value, &format!("/{name}"), read);
        }
    }

    /// A member that must be a list of at most `most` objects, each read by `read`.
    pub fn objects(&mut self, name: &'static str, most: usize, mut read: impl FnMut(&mut Reader<'_>)) {
        for (index, item) in self.list(name, most).iter().enumerate() {
            self.nested(item, &format!("/{name}/{index}"), &mut read);
        }
    }

    /// A member that must be a list of at most `most` texts of the kind that `read` takes; `wanted` says which.
    pub fn texts<T>(
        &mut self,
        name: &'static str,
        most: usize,
        wanted: &str,
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut texts = Vec::new();
        for (index, item) in self.list(name, most).iter().enumerate() {
            match item.as_str().map(|text| (text.contains('\0'), read(text))) {
                Some((true, _)) => {
                    self.note(&format!("/{name}/{index}"), "pattern", "must be without U+0000");
                }
                Some((false, Some(text))) => texts.push(text),
                _ => self.note(&format!("/{name}/{index}"), "pattern", wanted),
            }
        }
        texts
    }

    /// A member that must be a list of at most `most` values; empty if it is absent.
    pub fn list(&mut self, name: &'static str, most: usize) -> &'a [Value] {
        let Some(value) = self.take(name) else { return &[] };
        match value.as_array() {
            Some(items) if items.len() <= most => items,
            Some(_) => {
                self.note(&format!("/{name}"), "maxItems", format!("must have at most {most} items"));
                &[]
            }
            None => {
                self.note(&format!("/{name}"), "type", "must be a list");
                &[]
            }
        }
    }

    /// Whether the member is absent, or a list of nothing.
    pub fn is_empty_list(&self, name: &str) -> bool {
        !self.has(name) || self.members.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty)
    }

    /// The members of a member that must be an object of at most `most`, whatever their names; none if it is absent.
    pub fn entries(&mut self, name: &'static str, most: usize) -> Vec<(&'a String, &'a Value)> {
        let Some(value) = self.take(name) else { return Vec::new() };
        match value.as_object() {
            Some(entries) if entries.len() <= most => entries.iter().collect(),
            Some(_) => {
                self.note(&format!("/{name}"), "maxProperties", format!("must have at most {most} members"));
                Vec::new()
            }
            None => {
                self.note(&format!("/{name}"), "type", "must be an object");
                Vec::new()
            }
        }
    }

    /// Reads `value`, at the pointer `below` this object, which must be an object.
    pub fn nested(&mut self, value: &Value, below: &str, read: impl FnOnce(&mut Reader<'_>)) {
        let null_is_absent = self.null_is_absent;
        Reader::within(value, format!("{}{below}", self.pointer), self.violations, |reader| {
            reader.null_is_absent = null_is_absent;
            read(reader);
        });
    }

    /// A member that must be `true` or `false`.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if !value.is_boolean() {
            self.note(&format!("/{name}"), "type", "must be true or false");
        }
        value.as_bool()
    }

    /// A member that must be an integer in a range.
    pub fn integer<T>(&mut self, name: &'static str, range: RangeInclusive<T>) -> Option<T>
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

    /// A member that must be a number from 0 to 1; gives its thousandths.
    pub fn fraction(&mut self, name: &'static str) -> Option<u16> {
        let value = self.take(name)?;
        let fraction = value.as_f64().filter(|fraction| (0.0..=1.0).contains(fraction));
        if fraction.is_none() {
            let keyword = if value.is_number() { "range" } else { "type" };
            self.note(&format!("/{name}"), keyword, "must be a number from 0 to 1");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
        fraction.map(|fraction| (fraction * 1000.0).round() as u16)
    }

    /// A member that must be one of these words; gives what stands beside it.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let chosen = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if chosen.is_none() {
            let keyword = if value.is_string() { "enum" } else { "type" };
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.note(&format!("/{name}"), keyword, format!("must be one of {}", words.join(", ")));
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// A member that must be a text, not an empty one, without U+0000, which no text of PostgreSQL holds.
    pub fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.take(name)?;
        let text = value.as_str().filter(|text| !text.is_empty() && !text.contains('\0'));
        if text.is_none() {
            self.note(&format!("/{name}"), "type", "must be a text that is not empty, without U+0000");
        }
        text
    }

    /// A member that must be a word, see [`is_word`].
    pub fn word(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        let word = value.as_str().filter(|text| is_word(text));
        if word.is_none() {
            self.note(&format!("/{name}"), "word", NOT_A_WORD);
        }
        word.map(str::to_owned)
    }

    /// A member that must be a list of words.
    pub fn words(&mut self, name: &'static str) -> Vec<String> {
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
    pub fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
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

/// A member's name as a part of a JSON pointer.
pub fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

const NOT_A_WORD: &str =
    "must be a simple text: 1 to 100 characters, none of them a control character, no space at the ends";

/// Whether `text` is a word: 1 to 100 characters, none of them a control character, no space at the ends.
pub fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().count() <= MAX_WORD
        && !text.chars().any(char::is_control)
}

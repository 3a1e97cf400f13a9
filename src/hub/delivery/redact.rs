//! Blots out parameters, tokens and signing secrets in what is kept of an answer, however they are spelt there.

mod inside;
mod spelling;

use crate::http::json_text::to_value;
use crate::hub::definitions::endpoint::Endpoint;
use crate::seal::REDACTED;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// From so many characters on something is blotted out: what is shorter is no key, and stands in any text by chance.
const SHORTEST: usize = 6;
/// A longer one is looked for in pieces of so many bytes: a part of it is as secret, and the search stays short.
const PIECE: usize = 256;
/// An escaped byte takes at most so many: `%` as `\u0025`, and so each of its digits.
const WIDEST: usize = 18;

/// What must not be shown.
#[derive(Default)]
pub struct Redactor {
    /// In small letters, by their first bytes and their length, so that many cost no more than few.
    needles: HashMap<[u8; SHORTEST], HashMap<usize, HashSet<Vec<u8>>>>,
    longest: usize,
}

impl Redactor {
    /// Hides what an endpoint bears, and what it bore before.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let mut redactor = Self::default();
        redactor.hide_those_of(endpoint);
        redactor
    }

    /// Hides what an endpoint bears too, and what it bore before.
    pub(super) fn hide_those_of(&mut self, endpoint: &Endpoint) {
        let secrets = endpoint.token.iter().chain(&endpoint.signing_secrets).chain(&endpoint.wire_secrets);
        let secrets = secrets.chain(&endpoint.former);
        for secret in secrets {
            self.hide_whole(secret.expose_secret());
        }
    }

    /// Hides a secret, what lies within it, and the bytes that it or a part of it spells.
    fn hide_whole(&mut self, secret: &str) {
        self.hide(secret);
        for bytes in inside::spelt(secret) {
            self.hide_bytes(&bytes);
        }
        for part in inside::inside(secret) {
            self.hide_bytes(&part);
            let text = std::str::from_utf8(&part).unwrap_or_default();
            for bytes in inside::spelt(text) {
                self.hide_bytes(&bytes);
            }
        }
    }

    /// Hides a text: as it is, escaped, in base64, and in hexadecimal digits; in large letters or small ones.
    pub fn hide(&mut self, secret: &str) {
        if secret.chars().count() >= SHORTEST {
            self.hide_bytes(secret.as_bytes());
        }
    }

    /// The same of bytes.
    fn hide_bytes(&mut self, secret: &[u8]) {
        if secret.len() < SHORTEST {
            return;
        }
        for piece in pieces(secret) {
            self.plain(piece);
            for encoded in spelling::base64(piece) {
                self.plain(&encoded);
            }
            self.plain(&spelling::hex(piece));
        }
    }

    /// Hides a parameter's value; of a list or an object what is in it. No word of JSON's own is a secret.
    pub fn hide_value(&mut self, value: &RawValue, password: bool) {
        let Some(value) = to_value(value.get()) else { return };
        let text = match &value {
            Value::String(text) if password => return self.hide_whole(text),
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(number) => Cow::Owned(number.to_string()),
            other => return self.hide_inner(other, password),
        };
        self.hide(&text);
    }

    fn hide_inner(&mut self, value: &Value, password: bool) {
        match value {
            Value::String(text) if password => self.hide_whole(text),
            Value::String(text) if text.chars().count() >= SHORTEST => {
                pieces(text.as_bytes()).for_each(|piece| self.plain(piece));
            }
            Value::Number(number) if number.to_string().len() >= SHORTEST => {
                self.plain(number.to_string().as_bytes());
            }
            Value::Array(values) => values.iter().for_each(|value| self.hide_inner(value, password)),
            Value::Object(members) => members.values().for_each(|value| self.hide_inner(value, password)),
            _ => {}
        }
    }

    fn plain(&mut self, secret: &[u8]) {
        let secret = secret.to_ascii_lowercase();
        if let Some(begin) = secret.first_chunk() {
            self.longest = self.longest.max(secret.len());
            let same = self.needles.entry(*begin).or_default();
            same.entry(secret.len()).or_default().insert(secret);
        }
    }

    /// How long the secrets are with which a text in small letters begins.
    fn begins(&self, text: &[u8], mut found: impl FnMut(usize)) {
        for (length, same) in
            text.first_chunk().and_then(|begin| self.needles.get(begin)).into_iter().flatten()
        {
            if text.get(..*length).is_some_and(|begin| same.contains(begin)) {
                found(*length);
            }
        }
    }

    /// The text with every secret blotted out.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text.as_bytes());
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(blotted(text, &found, text.len()))
    }

    /// What is kept of a body: at most `limit` bytes of it as text, with every secret blotted out.
    pub fn beginning(&self, body: &[u8], limit: usize) -> String {
        // Far enough that no secret that begins before the limit ends behind what is looked at.
        let far = limit.saturating_add(self.longest.saturating_mul(WIDEST));
        let mut text = String::from_utf8_lossy(&body[..body.len().min(far)]).into_owned();
        if text.contains('\0') {
            text = text.replace('\0', "\u{fffd}");
        }
        let mut limit = limit.min(text.len());
        while !text.is_char_boundary(limit) {
            limit -= 1;
        }
        let found = self.find(text.as_bytes());
        if found.is_empty() {
            text.truncate(limit);
            return text;
        }
        blotted(&text, &found, limit)
    }

    /// A JSON value with the secrets in its strings, keys and numbers blotted out; as it stands if it has none.
    pub fn json(&self, value: Box<RawValue>) -> Box<RawValue> {
        if self.find(value.get().as_bytes()).is_empty() {
            return value;
        }
        let value = to_value(value.get()).map(|value| self.value(value)).unwrap_or_default();
        serde_json::value::to_raw_value(&value).unwrap_or_default()
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text).into_owned()),
            Value::Number(number) if !self.find(number.to_string().as_bytes()).is_empty() => REDACTED.into(),
            Value::Array(values) => values.into_iter().map(|value| self.value(value)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(key, value)| (self.text(&key).into_owned(), self.value(value)))
                .collect(),
            other => other,
        }
    }

    /// Where secrets stand, in order, without overlaps.
    fn find(&self, text: &[u8]) -> Vec<(usize, usize)> {
        if self.longest == 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        spelling::each_view(text, &mut |view| {
            let small = view.bytes.to_ascii_lowercase();
            for at in 0..small.len() {
                self.begins(&small[at..], |length| {
                    found.push((view.from[at], view.to[at + length - 1]));
                });
            }
        });
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (from, to) in found {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

/// A secret in pieces that cover it; the last may overlap the one before, so that none is too short.
fn pieces(secret: &[u8]) -> impl Iterator<Item = &[u8]> {
    let last = secret.len().saturating_sub(PIECE);
    (0..=last)
        .step_by(PIECE)
        .chain((!last.is_multiple_of(PIECE)).then_some(last))
        .map(|at| &secret[at..secret.len().min(at + PIECE)])
}

/// The text up to `limit`, with what was found blotted out; what begins before it is blotted out whole. A piece of a long
/// secret may begin or end within a character, which then goes with it.
fn blotted(text: &str, found: &[(usize, usize)], limit: usize) -> String {
    let mut shown = String::with_capacity(limit);
    let mut at = 0;
    for (from, to) in found.iter().take_while(|(from, _)| *from < limit) {
        shown.push_str(&text[at..text.floor_char_boundary(*from).max(at)]);
        shown.push_str(REDACTED);
        at = text.ceil_char_boundary(*to);
    }
    if at < limit {
        shown.push_str(&text[at..limit]);
    }
    shown
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;

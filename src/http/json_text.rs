//! JSON text beyond what `serde_json` makes values of: how deep it nests, and a value of whatever RFC 8259 allows.
//!
//! Text is what we keep and hand on; a [`Value`] is only made to look into it, for a schema, a filter or a definition.
//! A [`Value`] has no half of a surrogate pair and no number beyond a double, so where one is looked for, U+FFFD and
//! the largest double stand in for them.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The deepest nesting of arrays and objects that is read.
pub const MAX_DEPTH: usize = 128;
/// U+FFFD as an escape: as long as the one it stands in for.
const REPLACEMENT: &str = "\\ufffd";

/// Arrays and objects nest deeper than [`MAX_DEPTH`]; the byte at which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooDeep(pub usize);

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arrays and objects nest deeper than {MAX_DEPTH}")
    }
}

/// The depth of `text`. Whether it is JSON is the parser's to say; here nothing recurses and nothing is allocated.
///
/// # Errors
/// [`TooDeep`].
pub fn depth(text: &str) -> Result<usize, TooDeep> {
    let bytes = text.as_bytes();
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                if depth > MAX_DEPTH {
                    return Err(TooDeep(at));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(deepest)
}

/// Where the string that begins at `at` has its closing quote, or the end of the text.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// `text`, which is JSON, as a value to look into; of duplicate keys the last counts. `None` when it nests deeper than
/// `MAX_DEPTH`, or is no JSON.
pub fn to_value(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    depth(text).ok()?;
    let text = tame(text);
    serde_json::from_str(&text).or_else(|_| parse_deepest(&text)).ok()
}

/// What a JSON string says; `None` for any other value.
pub fn to_string(string: &RawValue) -> Option<String> {
    let spelt = string.get();
    if !spelt.starts_with('"') {
        return None;
    }
    serde_json::from_str(spelt).or_else(|_| serde_json::from_str(&tame(spelt))).ok()
}

/// Parses a text that nests 128 deep: `serde_json` follows 127 levels, so the outermost is taken off first.
fn parse_deepest(text: &str) -> serde_json::Result<Value> {
    if text.trim_start().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text)?;
        items
            .into_iter()
            .map(|item| serde_json::from_str(item.get()))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    } else {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
        let members = members.into_iter().map(|(key, member)| Ok((key, serde_json::from_str(member.get())?)));
        members.collect::<Result<_, _>>().map(Value::Object)
    }
}

/// `text` with a stand-in for every half of a surrogate pair and for every number that no double can hold.
fn tame(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut tamed = String::with_capacity(text.len());
    let (mut copied, mut at, mut in_string) = (0, 0, false);
    while let Some(byte) = bytes.get(at) {
        let (length, stand_in) = match byte {
            b'"' => {
                in_string = !in_string;
                (1, None)
            }
            b'\\' if in_string => escape_at(bytes, at),
            b'-' | b'0'..=b'9' if !in_string => number_at(text, at),
            _ => (1, None),
        };
        if let Some(stand_in) = stand_in {
            tamed.push_str(&text[copied..at]);
            tamed.push_str(stand_in);
            copied = at + length;
        }
        at += length;
    }
    tamed.push_str(&text[copied.min(text.len())..]);
    tamed
}

/// How long the escape at `at` is (of a surrogate pair, both halves), and what stands in for it.
fn escape_at(bytes: &[u8], at: usize) -> (usize, Option<&'static str>) {
    match code_unit(bytes, at) {
        Some(0xd800..=0xdbff) if matches!(code_unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => (12, None),
        Some(0xd800..=0xdfff) => (6, Some(REPLACEMENT)),
        Some(_) => (6, None),
        None => (2, None),
    }
}

/// How long the number at `at` is, and what stands in for it.
fn number_at(text: &str, at: usize) -> (usize, Option<&'static str>) {
    let number =
        text[at..].bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let length = number.count();
    let stand_in = match text[at..at + length].parse::<f64>() {
        Ok(f64::INFINITY) => Some("1.7976931348623157e308"),
        Ok(f64::NEG_INFINITY) => Some("-1.7976931348623157e308"),
        _ => None,
    };
    (length, stand_in)
}

/// The code unit that the escape `\uXXXX` at `at` stands for, if that is what is there.
pub(super) fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// The members of a JSON object, in their order, keys and values as they stand in the text; `None` when it is
/// no object.
pub fn members(object: &RawValue) -> Option<Vec<(&RawValue, &RawValue)>> {
    struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;

            impl<'de> Visitor<'de> for InOrder {
                type Value = Members<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }
    serde_json::from_str::<Members<'_>>(object.get()).ok().map(|members| members.0)
}

/// The object that has these members, keys and values as they stand.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a RawValue, &'a RawValue)>) -> Box<RawValue> {
    let mut text = String::from("{");
    for (key, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(key.get());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    RawValue::from_string(text).unwrap_or_default()
}

/// A Rust value as JSON text; `null` for what cannot be one.
pub fn raw<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Whether a JSON string is this plain word, however it is spelt.
pub fn is(string: &RawValue, word: &str) -> bool {
    let spelt = string.get();
    if spelt.contains('\\') {
        return serde_json::from_str::<String>(spelt).is_ok_and(|text| text == word);
    }
    spelt.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(word)
}

/// Line and column of a byte, both counted from 1, columns in bytes, as `serde_json` counts.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.split(|byte| *byte == b'\n').count();
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn depth_is_counted_over_arrays_and_objects_but_not_in_strings() {
        assert_eq!(depth("1"), Ok(0));
        assert_eq!(depth(r#"{"a":[{"b":[]}],"c":[]}"#), Ok(4));
        assert_eq!(depth(r#"["[[[[\"[[[["]"#), Ok(1));
        let mixed = r#"{"a":["#.repeat(64);
        assert_eq!(depth(&mixed), Ok(128));
        assert_eq!(depth(&format!("{mixed}[")), Err(TooDeep(mixed.len())));
    }

    #[test]
    fn what_no_value_holds_has_a_stand_in() {
        let text = r#"{"\ud800":["\ud83d\ude00\udc00x",1e400,-1e400,"1e400 \\ud800"],"n":"\u0000"}"#;
        let expected = json!({
            "\u{fffd}": ["\u{1f600}\u{fffd}x", f64::MAX, f64::MIN, "1e400 \\ud800"], "n": "\0"
        });
        assert_eq!(to_value(text), Some(expected));
        assert_eq!(to_value(&"9".repeat(400)), Some(json!(f64::MAX)));
        let string: Box<RawValue> = serde_json::from_str(r#""a\udfff""#).unwrap();
        assert_eq!(to_string(&string).as_deref(), Some("a\u{fffd}"));
        assert_eq!(to_string(RawValue::NULL), None);
    }

    #[test]
    fn the_deepest_that_is_read_may_hold_what_no_value_holds() {
        for (open, close) in [("[", "]"), ("{\"\\ud800\":", "}")] {
            let deep = |depth: usize| [&open.repeat(depth), "1e400", &close.repeat(depth)].concat();
            assert!(to_value(&deep(128)).is_some());
            assert_eq!(to_value(&deep(129)), None);
        }
        assert_eq!(to_value("{"), None);
    }

    #[test]
    fn the_members_of_an_object_stand_as_they_are() {
        let text = r#"{"b":1.0,"\u0061":"\ud800","b":2}"#;
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        let found = members(&raw).unwrap();
        assert_eq!(found.len(), 3);
        assert!(is(found[1].0, "a"));
        assert_eq!(object(found).get(), text);
        assert!(members(RawValue::NULL).is_none());
    }

    #[test]
    fn a_place_is_a_line_and_a_column() {
        assert_eq!(line_and_column("{\n  x", 4), (2, 3));
        assert_eq!(line_and_column("x", 0), (1, 1));
        assert_eq!(line_and_column("x\n", 9), (2, 1));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_stumble(text in r#"[\[\]{}"\\u0dD8Cc,:é1e\-]{0,40}"#) {
            let _ = (depth(&text), to_value(&text));
        }

        /// Whatever is JSON has a value.
        #[test]
        fn all_json_has_a_value(text in r#""(\\u(0000|00e9|d83d|de00|D800)|\\\\|\\"|x){0,8}""#) {
            prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok());
            prop_assert!(to_value(&text).is_some_and(|value| value.is_string()));
        }
    }
}

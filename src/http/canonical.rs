//! What a JSON text says, as one number, however it is spelt: white space, the order of members and the escapes in
//! strings do not count. A number counts as it is written, so that two numbers which no double tells apart stay two.
//!
//! The idea of RFC 8785, without its doubles. Nothing is built but the canonical text, which is no longer than the text
//! itself: a member that stands before its turn is moved, not kept in a map. The SQL function `canonical_json` writes the
//! same text, so that a digest is the same whoever makes it (`tests/queues/unique_values.rs`).

use super::json_text::{MAX_DEPTH, code_unit, depth};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// SHA-256 of what `text`, which is JSON, says, and of `scope`: the same text in another scope has another digest.
/// A text that nests deeper than any that is pushed over HTTP counts byte by byte.
pub(super) fn digest(scope: &str, text: &str) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(scope.as_bytes());
    sha.update([0]);
    if depth(text).is_ok_and(|depth| depth <= MAX_DEPTH) {
        let mut writer = Writer { bytes: text.as_bytes(), at: 0, out: Vec::with_capacity(text.len()) };
        writer.value();
        sha.update(&writer.out);
    } else {
        sha.update(text.as_bytes());
    }
    sha.finalize().into()
}

/// Writes the canonical text. It recurses, at most [`MAX_DEPTH`] levels.
struct Writer<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

/// What stands in PostgreSQL for the backslash of an escape that no text of it can hold, and so reads as one.
const STAND_IN: &[u8] = "\u{10ffff}".as_bytes();

impl Writer<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn value(&mut self) {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => self.word(),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b']' | b'}'))
            .unwrap_or(rest.len());
        self.out.extend_from_slice(&rest[..length]);
        self.at += length;
    }

    fn array(&mut self) {
        self.at += 1;
        self.out.push(b'[');
        while let Some(byte) = self.peek() {
            match byte {
                b']' => break,
                b',' => self.at += 1,
                _ => {
                    let before = self.at;
                    self.value();
                    self.out.push(b',');
                    if self.at == before {
                        // No JSON: it must end all the same.
                        self.at += 1;
                    }
                }
            }
        }
        self.close(b']');
    }

    /// Ends an array or an object, whose last item has a comma behind it.
    fn close(&mut self, bracket: u8) {
        self.at += 1;
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
        self.out.push(bracket);
    }

    fn object(&mut self) {
        self.at += 1;
        self.out.push(b'{');
        let start = self.out.len();
        // Each member with the length of its key.
        let mut members: Vec<(Range<usize>, usize)> = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'}' => break,
                b'"' => {
                    let begins = self.out.len();
                    self.string();
                    let key = self.out.len() - begins;
                    if self.peek() == Some(b':') {
                        self.at += 1;
                    }
                    self.out.push(b':');
                    self.value();
                    self.out.push(b',');
                    members.push((begins..self.out.len(), key));
                }
                _ => self.at += 1,
            }
        }
        let key = |(member, length): &(Range<usize>, usize)| member.start..member.start + length;
        if !members.is_sorted_by(|a, b| self.out[key(a)] <= self.out[key(b)]) {
            // Stable: of duplicate keys the last counts to most readers, so their order does.
            members.sort_by(|a, b| self.out[key(a)].cmp(&self.out[key(b)]));
            let mut sorted = Vec::with_capacity(self.out.len() - start);
            for (member, _) in &members {
                sorted.extend_from_slice(&self.out[member.clone()]);
            }
            self.out.truncate(start);
            self.out.append(&mut sorted);
        }
        self.close(b'}');
    }

    fn string(&mut self) {
        self.at += 1;
        self.out.push(b'"');
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => self.escape(),
                0xf4 if self.bytes[self.at..].starts_with(STAND_IN) => {
                    self.character(0x0010_ffff);
                    self.at += STAND_IN.len();
                }
                _ => {
                    self.out.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        self.out.push(b'"');
    }

    fn escape(&mut self) {
        let Some(unit) = code_unit(self.bytes, self.at) else {
            let plain = match self.bytes.get(self.at + 1).copied().unwrap_or(b'\\') {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                itself => itself,
            };
            self.character(u32::from(plain));
            self.at += 2;
            return;
        };
        let (high, low) = (u32::from(unit), code_unit(self.bytes, self.at + 6).map(u32::from));
        match low {
            Some(low @ 0xdc00..=0xdfff) if (0xd800..=0xdbff).contains(&high) => {
                self.character(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                self.at += 12;
            }
            _ => {
                self.character(high);
                self.at += 6;
            }
        }
    }

    /// A character as UTF-8; what no JSON string may hold as it is, and half of a surrogate pair, as an escape.
    fn character(&mut self, code: u32) {
        let short = match code {
            0x08 => b"\\b",
            0x09 => b"\\t",
            0x0a => b"\\n",
            0x0c => b"\\f",
            0x0d => b"\\r",
            0x22 => b"\\\"",
            0x5c => b"\\\\",
            0x0010_ffff => b"\\u",
            _ => {
                match char::from_u32(code).filter(|character| *character >= ' ') {
                    Some(character) => {
                        self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => self.out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
                }
                return;
            }
        };
        self.out.extend_from_slice(short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn same(a: &str, b: &str) -> bool {
        digest("", a) == digest("", b)
    }

    #[test]
    fn white_space_the_order_of_members_and_escapes_do_not_count() {
        for (a, b) in [
            (r#"{"x":1}"#, " {\t\"x\" :\r\n1 } "),
            (r#"{"b":[1,{"d":2,"c":3}],"a":null}"#, r#"{"a":null,"b":[1,{"c":3,"d":2}]}"#),
            (r#""é/A\"\\\n😀""#, r#""\u00e9\/\u0041\u0022\u005c\u000a\ud83D\uDE00""#),
            (r#"{"\u0061":1,"b":2}"#, r#"{"b":2,"a":1}"#),
            (r#"["\ud800"]"#, r#"["\uD800"]"#),
            ("[ ]", "[]"),
            ("{ }", "{}"),
        ] {
            assert!(same(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn whatever_says_something_else_has_another_digest() {
        let texts = [
            "1",
            "1.0",
            "1e0",
            "10e-1",
            "-0",
            "0",
            "\"1\"",
            "[1]",
            "[[1]]",
            "[1,1]",
            "null",
            "\"null\"",
            "true",
            "{}",
            "[]",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":{"b":2}}"#,
            r#"{"A":1}"#,
            r#"["a","b"]"#,
            r#"["a,b"]"#,
            r#"["a\",\"b"]"#,
            r#"[["a"],"b"]"#,
            "12345678901234567890123",
            "12345678901234567890124",
            "1e400",
            "1e401",
            r#""\u0000""#,
            r#""""#,
            r#""\ud800""#,
            r#""\ud801""#,
            r#""\udc00""#,
            r#""\ud800\udc00""#,
            r#""\ufffd""#,
            r#""\\ud800""#,
        ];
        for (index, a) in texts.iter().enumerate() {
            for b in &texts[index + 1..] {
                assert!(!same(a, b), "{a} and {b}");
            }
        }
        assert_ne!(digest("a", "1"), digest("b", "1"));
    }

    #[test]
    fn the_deepest_and_the_widest_are_read() {
        let deep = |close: &str| "[{\"b\":0,\"a\":".repeat(64) + "1" + &close.repeat(64);
        assert!(same(&deep("}]"), &deep(" } ] ")));
        let wide = |numbers: &mut dyn Iterator<Item = u32>| {
            let members: Vec<String> = numbers.map(|n| format!("\"{n}\":{n}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(same(&wide(&mut (0..50_000)), &wide(&mut (0..50_000).rev())));
        assert!(!same(&"[".repeat(200), &"[".repeat(201)));
    }

    /// Any value, not too large.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The value with its members the other way round and every character of its strings escaped.
    fn spelt_otherwise(value: &Value) -> String {
        let quoted = |text: &str| {
            let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{}\"", units.concat())
        };
        match value {
            Value::String(text) => quoted(text),
            Value::Array(items) => {
                format!("[ {} ]", items.iter().map(spelt_otherwise).collect::<Vec<_>>().join(" ,\n"))
            }
            Value::Object(members) => {
                let members = members.iter().rev();
                let members =
                    members.map(|(key, value)| format!("{} : {}", quoted(key), spelt_otherwise(value)));
                format!("{{\t{}}}", members.collect::<Vec<_>>().join(" , "))
            }
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn however_a_value_is_spelt_it_has_one_digest(value in any_value()) {
            prop_assert!(same(&value.to_string(), &spelt_otherwise(&value)));
        }

        #[test]
        fn two_values_have_two_digests(one in any_value(), other in any_value()) {
            prop_assert_eq!(one == other, same(&one.to_string(), &other.to_string()));
        }

        #[test]
        fn no_text_makes_it_stumble(text in r#"(\{"[ab]":|\[|"x|\\u00e9|"|[0-9]|,|\]|\}| ){0,12}"#) {
            let _ = digest("", &text);
        }
    }
}

//! Digests of values inside a message: what makes it the same message for a mapping, and which line it stands in.

use crate::hub::definitions::mapping::{Path, Serial};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The digest of the identifiers' names and values. `None` when there are none, or when one has no value: such a
/// message is like no other, and is delivered.
pub fn digest(identifiers: &[(String, Path)], message: &Value) -> Option<[u8; 32]> {
    if identifiers.is_empty() {
        return None;
    }
    let mut sorted: Vec<&(String, Path)> = identifiers.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::new();
    for (name, path) in sorted {
        let values = path.values(message);
        if values.iter().all(|value| value.is_null()) {
            return None;
        }
        write_text(&mut text, name);
        write_all(&mut text, &values);
    }
    Some(Sha256::digest(text).into())
}

/// The digest of the line in which the message stands; `None` if it waits for nobody. Messages without the value
/// share one line.
pub fn line(serial: &Serial, message: &Value) -> Option<[u8; 32]> {
    let mut text = String::new();
    match serial {
        Serial::No => return None,
        Serial::All => {}
        Serial::By(path) => write_all(&mut text, &path.values(message)),
    }
    Some(Sha256::digest(text).into())
}

fn write_all(text: &mut String, values: &[&Value]) {
    text.push('[');
    for value in values {
        write(text, value);
        text.push(',');
    }
    text.push(']');
}

/// Writes a value so that equal ones are written alike, whatever the order of their members.
fn write(text: &mut String, value: &Value) {
    match value {
        Value::Array(items) => write_all(text, &items.iter().collect::<Vec<_>>()),
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in sorted {
                write_text(text, name);
                write(text, value);
                text.push(',');
            }
            text.push('}');
        }
        Value::String(string) => write_text(text, string),
        other => text.push_str(&other.to_string()),
    }
}

/// Quoted and with its length, so that no two different texts are written alike.
fn write_text(text: &mut String, string: &str) {
    text.push('"');
    text.push_str(&string.len().to_string());
    text.push(':');
    text.push_str(string);
    text.push('"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::json;

    fn identifiers(paths: &[(&str, &str)]) -> Vec<(String, Path)> {
        paths.iter().map(|(name, path)| ((*name).to_owned(), Path::read(path).unwrap())).collect()
    }

    #[test]
    fn the_same_names_and_values_have_the_same_digest() {
        let two = identifiers(&[("number", "payload.number"), ("state", "payload.state")]);
        let turned = identifiers(&[("state", "payload.state"), ("number", "payload.number")]);
        let of = |identifiers: &[(String, Path)], payload: Value| {
            digest(identifiers, &json!({ "payload": payload }))
        };
        let first = of(&two, json!({ "number": "R1", "state": { "a": 1, "b": [2] } }));
        assert!(first.is_some());
        assert_eq!(of(&turned, json!({ "state": { "b": [2], "a": 1 }, "number": "R1", "more": 3 })), first);
        assert_ne!(of(&two, json!({ "number": "R2", "state": { "a": 1, "b": [2] } })), first);
        assert_ne!(of(&two, json!({ "number": "R1", "state": { "a": 1, "b": ["2"] } })), first);
        let renamed = identifiers(&[("id", "payload.number"), ("state", "payload.state")]);
        assert_ne!(of(&renamed, json!({ "number": "R1", "state": { "a": 1, "b": [2] } })), first);
    }

    #[test]
    fn a_message_without_one_of_the_values_is_like_no_other() {
        let two = identifiers(&[("number", "payload.number"), ("state", "payload.state")]);
        assert_eq!(digest(&two, &json!({ "payload": { "number": "R1" } })), None);
        assert_eq!(digest(&two, &json!({ "payload": { "number": "R1", "state": null } })), None);
        assert_eq!(digest(&[], &json!({ "payload": {} })), None);
        assert!(digest(&two, &json!({ "payload": { "number": "", "state": false } })).is_some());
    }

    #[test]
    fn texts_cannot_be_made_to_look_like_other_values() {
        let of = |value: Value| {
            let each = identifiers(&[("a", "payload.*")]);
            digest(&each, &json!({ "payload": [value] })).unwrap()
        };
        let values = [
            json!(1),
            json!("1"),
            json!(true),
            json!("true"),
            json!(["a", "b"]),
            json!(["a\",1:\"b"]),
            json!([["a"], "b"]),
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(of(a.clone()), of(b.clone()), "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_line_is_all_of_a_mapping_or_those_with_one_value() {
        let by = Serial::By(Path::read("payload.number").unwrap());
        let of = |serial: &Serial, number: Value| line(serial, &json!({ "payload": { "number": number } }));
        assert_eq!(of(&Serial::No, json!(1)), None);
        assert!(of(&Serial::All, json!(1)).is_some());
        assert_eq!(of(&Serial::All, json!(1)), of(&Serial::All, json!(2)));
        assert_eq!(of(&by, json!(1)), of(&by, json!(1)));
        assert_ne!(of(&by, json!(1)), of(&by, json!(2)));
        assert_eq!(line(&by, &json!({ "payload": {} })), line(&by, &json!({ "payload": [] })));
    }
}

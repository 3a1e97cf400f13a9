//! JSON text to a Rust type; a document of another shape is refused with the place and the broken rule.

use crate::error::{Error, Result, Violation};
use serde::de::DeserializeOwned;

/// Reads `text`, which is JSON, as a `T`.
///
/// # Errors
/// 422 with one violation: serde stops at the first.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let violation = violation(text, &error);
        Error::Invalid("the document has another shape than is expected here".to_owned(), vec![violation])
    })
}

fn violation(text: &str, error: &serde_json::Error) -> Violation {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
    // What serde found is left out: it may be a secret in the wrong place.
    let expected = || message.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
    let (keyword, words) = if message.starts_with("invalid type") || message.starts_with("invalid length") {
        ("type", format!("expected {}", expected()))
    } else if message.starts_with("unknown variant") || message.starts_with("invalid value") {
        ("enum", format!("expected {}", expected()))
    } else if message == "expected value" {
        ("type", "expected a value of another type".to_owned())
    } else if message.starts_with("missing field") {
        ("required", message.to_owned())
    } else if message.starts_with("unknown field") {
        ("additionalProperties", message.to_owned())
    } else if message.starts_with("duplicate field") {
        ("unique", message.to_owned())
    } else {
        ("shape", message.to_owned())
    };
    let mut path = path_at(text, offset(text, error));
    if keyword == "required" {
        // The object ends where serde misses the field: the last member read is not to blame.
        path.pop();
    }
    let pointer = path.iter().fold(String::new(), |pointer, segment| {
        pointer + "/" + &segment.replace('~', "~0").replace('/', "~1")
    });
    Violation::new(pointer, keyword, words)
}

/// How many bytes of `text` were read when `error` arose.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    before + error.column()
}

/// The keys and indices that lead to the value in which `text` is after `offset` bytes.
fn path_at(text: &str, offset: usize) -> Vec<String> {
    enum Frame {
        Array(usize),
        Object(Option<String>),
    }
    let bytes = text.as_bytes();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < offset.min(bytes.len()) {
        match bytes[at] {
            b'[' => frames.push(Frame::Array(0)),
            b'{' => frames.push(Frame::Object(None)),
            b']' | b'}' => drop(frames.pop()),
            b',' => match frames.last_mut() {
                Some(Frame::Array(index)) => *index += 1,
                Some(Frame::Object(key)) => *key = None,
                None => {}
            },
            b'"' => {
                let start = at;
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(Frame::Object(key @ None)) = frames.last_mut() {
                    *key = text.get(start..=at).and_then(|key| serde_json::from_str(key).ok());
                }
            }
            _ => {}
        }
        at += 1;
    }
    let segment = |frame| match frame {
        Frame::Array(index) => Some(index.to_string()),
        Frame::Object(key) => key,
    };
    frames.into_iter().filter_map(segment).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is of interest")]
    struct Sample {
        name: String,
        roles: Vec<Role>,
        #[serde(default)]
        size: Option<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        One,
        Two,
    }

    fn refused(text: &str) -> (String, String, String) {
        let Error::Invalid(_, violations) = read::<Sample>(text).unwrap_err() else {
            panic!("another error")
        };
        let [Violation { pointer, keyword, message }] = &violations[..] else { panic!("not one") };
        (pointer.clone(), keyword.clone(), message.clone())
    }

    #[test]
    fn a_document_of_the_shape_is_read() {
        let sample: Sample = read(r#"{"name":"x","roles":["one","two"]}"#).unwrap();
        assert!(matches!(sample.roles[..], [Role::One, Role::Two]));
    }

    #[test]
    fn a_violation_names_the_place_and_the_rule_and_not_the_value() {
        let expect = |text, pointer: &str, keyword: &str, message: &str| {
            assert_eq!(refused(text), (pointer.to_owned(), keyword.to_owned(), message.to_owned()), "{text}");
        };
        expect("[]", "", "type", "expected struct Sample with 3 elements");
        expect("\"secret\"", "", "type", "expected struct Sample");
        expect(r#"{"name":1234,"roles":[]}"#, "/name", "type", "expected a string");
        expect(r#"{"name": {"a":1}}"#, "/name", "type", "expected a string");
        expect(r#"{"name":"x"}"#, "", "required", "missing field `roles`");
        expect("{\"name\":\"x\",\n\"roles\":{}}", "/roles", "type", "expected a sequence");
        expect(r#"{"roles":["one","secret"]}"#, "/roles/1", "enum", "expected `one` or `two`");
        expect(r#"{"roles":["one",7]}"#, "/roles/1", "type", "expected a value of another type");
        expect(r#"{"roles":[],"size":300}"#, "/size", "enum", "expected u8");
        expect(r#"{"name":"x","name":"y"}"#, "/name", "unique", "duplicate field `name`");
        expect(
            r#"{"a/~b":1}"#,
            "/a~1~0b",
            "additionalProperties",
            "unknown field `a/~b`, expected one of `name`, `roles`, `size`",
        );
    }

    #[test]
    fn a_path_leads_through_objects_arrays_and_awkward_keys() {
        let text = r#"{"a":[1,{"b\"]":2,"c":[[],[0"#;
        assert_eq!(path_at(text, text.len()), ["a", "1", "c", "1", "0"]);
        assert_eq!(path_at(text, 0), Vec::<String>::new());
        assert_eq!(path_at(r#"{"a":{"b":1}}"#, 12), ["a"]);
        assert_eq!(path_at(r#"{"a":{"b":1}}"#, 13), Vec::<String>::new());
    }
}

//! The parameters that a delivery is sent: names and values, and which of them nobody may see.

use crate::http::json_text::{members, to_string};
use serde_json::value::RawValue;

/// A parameter of a store, as it is sent.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value, as it was put.
    pub value: Box<RawValue>,
    /// Whether it is a password. Anything else may still be one in disguise.
    pub secret: bool,
    /// The passwords that it was before.
    pub former: Vec<Box<RawValue>>,
}

/// The parameters in a document's `parameters`: a list of `{name, value}`, or an object of names and values as
/// some write it. What is neither is left out.
pub fn named(parameters: &RawValue) -> Vec<(String, Box<RawValue>)> {
    // The names of those that an answer brings are kept as PostgreSQL's text.
    let text = |key: &RawValue| to_string(key).map(|name| name.replace('\0', "\u{fffd}"));
    if let Some(pairs) = members(parameters) {
        return pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, value.to_owned()))).collect();
    }
    let list: Vec<&RawValue> = serde_json::from_str(parameters.get()).unwrap_or_default();
    let pair = |entry: &RawValue| {
        let (mut name, mut value) = (None, RawValue::NULL);
        for (key, member) in members(entry)? {
            match text(key)?.as_str() {
                "name" => name = text(member),
                "value" => value = member,
                _ => {}
            }
        }
        Some((name?, value.to_owned()))
    };
    list.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_as_a_list_or_as_an_object() {
        let read = |text: &str| -> Vec<(String, String)> {
            let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
            named(&raw).into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
        };
        let expected = [("a".to_owned(), "1.0".to_owned()), ("b".to_owned(), "[ {} ]".to_owned())];
        assert_eq!(read(r#"[{"name":"a","value":1.0},{"value":[ {} ],"name":"b","x":2}]"#), expected);
        assert_eq!(read(r#"{"a":1.0,"b":[ {} ]}"#), expected);
        assert_eq!(
            read(r#"[1,"a",{"value":2},{"name":3},{"name":"c"}]"#),
            [("c".to_owned(), "null".to_owned())]
        );
        assert!(read("7").is_empty());
    }
}

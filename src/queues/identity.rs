//! What a push is called by its sender: a key of its own, and a value that is to be unique in its queue.

use super::uniqueness::Uniqueness;
use crate::error::{Error, Result};
use serde_json::value::RawValue;

/// The longest key, and the longest value that is given, in characters.
const LONGEST: usize = 255;

/// What tells a push from others: both are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `key`: what its sender calls it, and finds it by. Several may have the same.
    pub own_key: Option<String>,
    /// `unique`: the value that is to be unique in its queue, in the place of the one that is found.
    pub given: Option<String>,
}

/// The parameters, for the description of the API; [`Identity::read`] reads them.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it only describes")]
pub struct IdentityQuery {
    /// What its sender calls the message, and finds it by: 1 to 255 characters. Several messages may have the same.
    #[param(min_length = 1, max_length = 255, example = "booking:42")]
    key: Option<String>,
    /// The value that is to be unique, in the place of the one that the queue's `options.unique` finds: 1 to 255 characters.
    #[param(min_length = 1, max_length = 255, example = "order-R123")]
    unique: Option<String>,
}

/// The value of a push, which may be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Where the definition that this process knows finds it; empty for values that are given alone. Where another is in
    /// force by now, the database finds it anew.
    pub by: String,
    /// What stands for it.
    pub digest: [u8; 32],
    /// The value itself, if it was given.
    pub given: Option<String>,
}

impl Identity {
    /// As they were sent.
    ///
    /// # Errors
    /// 400 when one has not 1 to 255 characters.
    pub fn of(own_key: Option<String>, given: Option<String>) -> Result<Self> {
        for (name, text) in [("key", &own_key), ("unique", &given)] {
            if text.as_ref().is_some_and(|text| !is_label(text)) {
                let words = format!("`{name}` must have 1 to {LONGEST} characters, without U+0000");
                return Err(Error::BadRequest(words));
            }
        }
        Ok(Self { own_key, given })
    }

    /// Reads the query of a push.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn read(query: Option<&str>) -> Result<Self> {
        let find = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        Self::of(find("key"), find("unique"))
    }

    /// The value of a push of `request` into a queue whose definition says `rule`, if it has one.
    ///
    /// # Errors
    /// 400 when a value is given, and the definition does not say for how long it is unique.
    pub fn value(&self, rule: Option<&Uniqueness>, request: &RawValue) -> Result<Option<Unique>> {
        let Some(rule) = rule else {
            if self.given.is_none() {
                return Ok(None);
            }
            let words = "the queue has no option `unique`, which says for how long a value is unique";
            return Err(Error::BadRequest(words.to_owned()));
        };
        let digest = rule.digest(request, self.own_key.as_deref(), self.given.as_deref());
        Ok(digest.map(|digest| Unique { by: rule.scope().to_owned(), digest, given: self.given.clone() }))
    }
}

/// Whether this may be a key or a value that is given.
pub fn is_label(text: &str) -> bool {
    (1..=LONGEST).contains(&text.chars().count()) && !text.contains('\0')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::http::reader::Reader;
    use serde_json::json;
    use std::time::Duration;

    fn rule(key: &str) -> Uniqueness {
        let (mut rule, mut violations) = (None, Vec::new());
        Reader::within(&json!({ "key": key }), String::new(), &mut violations, |reader| {
            rule = Some(Uniqueness::read(reader, Duration::from_hours(1)));
        });
        assert!(violations.is_empty(), "{violations:?}");
        rule.unwrap()
    }

    fn text(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_value_that_is_given_is_one_that_is_found_as_a_text() {
        let value = |key: &str, body: &str, own: Option<&str>, given: Option<&str>| {
            let rule = rule(key);
            let identity = Identity::of(own.map(str::to_owned), given.map(str::to_owned)).unwrap();
            identity.value(Some(&rule), &text(body)).unwrap().map(|unique| unique.digest)
        };
        let found = value("/a", r#"{"a":"\u0041"}"#, None, None);
        assert!(found.is_some());
        assert_eq!(value("/a", r#"{"a":"B"}"#, None, Some("A")), found);
        assert_ne!(value("/b", r#"{"b":"A"}"#, None, None), found, "another pointer has other values");
        assert_eq!(value("key", "1", Some("A"), None), value("key", "2", Some("B"), Some("A")));
        assert_eq!(
            value("body", r#"{"a":1,"b":2}"#, None, None),
            value("body", r#"{"b":2, "a":1}"#, None, None)
        );
        for (key, body) in
            [("/a", "{}"), ("/a", r#"{"a":null}"#), ("/a", "5"), ("body", "null"), ("key", "1")]
        {
            assert_eq!(value(key, body, None, None), None, "{key} of {body}");
        }
    }

    #[test]
    fn what_is_given_has_1_to_255_characters_and_a_rule() {
        let of = |text: &str| Identity::of(Some(text.to_owned()), None).is_ok();
        assert!(of("é") && of(&"é".repeat(255)));
        assert!(!of("") && !of(&"k".repeat(256)) && !of("a\0"));
        let given = Identity::read(Some("delay=1s&key=a%20b&unique=c")).unwrap();
        assert_eq!(given, Identity { own_key: Some("a b".to_owned()), given: Some("c".to_owned()) });
        assert!(matches!(given.value(None, RawValue::NULL), Err(Error::BadRequest(_))));
        assert!(Identity::read(Some("unique=")).is_err());
    }
}

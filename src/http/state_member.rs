//! What is read of a definition: what was put, and beside it how it does, in a member [`NAME`] that a PUT ignores. So what
//! was read can be changed and put back as it is; and how a PUT is answered.

use super::body::Json;
use super::json_text::{is, members, object, raw};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

/// The member.
pub const NAME: &str = "state";

/// The definition as it was put, to the letter, with how it does as its last member.
pub fn with_state(definition: &RawValue, state: &impl Serialize) -> Box<RawValue> {
    let (name, state) = (raw(&NAME), raw(state));
    let is_empty = members(definition).is_none_or(|members| members.is_empty());
    let put = definition.get().trim_end().strip_suffix('}').unwrap_or("{");
    let text = format!("{put}{}{name}:{state}}}", if is_empty { "" } else { "," });
    RawValue::from_string(text).unwrap_or_else(|_| definition.to_owned())
}

/// How a definition's PUT is answered: 201 when it made something, 200 when it redefined it.
pub fn status_of_put(made: bool) -> StatusCode {
    if made { StatusCode::CREATED } else { StatusCode::OK }
}

/// What was put, without how it did when it was read.
pub fn without_state(document: Json) -> Json {
    Json { raw: stateless(&document.raw).unwrap_or(document.raw) }
}

/// As [`without_state`], of a document inside another; `None` if it does not say how it does.
pub fn stateless(document: &RawValue) -> Option<Box<RawValue>> {
    let is_state = |key: &RawValue| is(key, NAME);
    let members = members(document)?;
    if !members.iter().any(|(key, _)| is_state(key)) {
        return None;
    }
    Some(object(members.into_iter().filter(|(key, _)| !is_state(key))))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_stays_what_it_was_to_the_letter() {
        for (put, shown) in [
            ("{}", r#"{"state":{"n":1}}"#),
            ("{ \n}", "{ \n\"state\":{\"n\":1}}"),
            ("{\"a\" : 1.0,\n \"b\":{}}\n", "{\"a\" : 1.0,\n \"b\":{},\"state\":{\"n\":1}}"),
        ] {
            let put = RawValue::from_string(put.to_owned()).unwrap();
            assert_eq!(with_state(&put, &json!({ "n": 1 })).get(), shown);
        }
    }
}

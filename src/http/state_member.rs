//! What is read of a definition: what was put, and beside it how it does, in a member [`NAME`] that a PUT ignores. So what
//! was read can be changed and put back as it is.

use super::body::Json;
use super::json_text::{is, members, object, raw};
use serde::Serialize;
use serde_json::value::RawValue;

/// The member.
pub const NAME: &str = "state";

/// The definition with how it does.
pub fn with_state(definition: &RawValue, state: &impl Serialize) -> Box<RawValue> {
    let (name, state) = (raw(&NAME), raw(state));
    let put = members(definition).unwrap_or_default().into_iter();
    object(put.chain([(&*name, &*state)]))
}

/// What was put, without how it did when it was read.
pub fn without_state(document: Json) -> Json {
    let is_state = |key: &RawValue| is(key, NAME);
    let members = members(&document.raw).unwrap_or_default();
    if !members.iter().any(|(key, _)| is_state(key)) {
        drop(members);
        return document;
    }
    Json { raw: object(members.into_iter().filter(|(key, _)| !is_state(key))) }
}

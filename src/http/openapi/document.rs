//! The finished description: what the declarations of the routes cannot say is said here, for all of them alike.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

/// Members of a schema that hold values, not schemas.
const VALUES: [&str; 5] = ["const", "default", "enum", "example", "examples"];

/// The finished document, as it is served. It is filled after its own route is in it.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Document(Arc<OnceLock<Bytes>>);

impl Document {
    pub(in crate::http) fn fill(&self, api: &utoipa::openapi::OpenApi) {
        self.0.get_or_init(|| {
            let mut document = json!(api);
            for operation in operations(&mut document) {
                for parameter in list(operation, "parameters") {
                    parameter.get_mut("schema").into_iter().for_each(never_null);
                }
            }
            for schema in members(document.pointer_mut("/components/schemas")) {
                say_defaults(schema);
            }
            open_free_forms(&mut document);
            serde_json::to_vec(&document).unwrap_or_default().into()
        });
    }

    /// The document as it is sent.
    pub(super) fn bytes(&self) -> Bytes {
        self.0.get().cloned().unwrap_or_default()
    }
}

/// Every operation.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    members(document.get_mut("paths")).flat_map(|path| members(Some(path)))
}

/// The values of an object's members, if it is there.
fn members(object: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    object.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
}

/// The items of a list of an object, if it is there.
fn list<'v>(object: &'v mut Value, name: &str) -> impl Iterator<Item = &'v mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Takes `null` out of the schema of a parameter: one that is not there is absent, and a query or a header holds texts.
fn never_null(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = members.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            members.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(shapes)) = members.get_mut("oneOf") {
        shapes.retain(|shape| shape["type"] != "null");
        if let [Value::Object(shape)] = shapes.as_mut_slice() {
            let shape = std::mem::take(shape);
            members.remove("oneOf");
            members.extend(shape);
        }
    }
}

/// Says in words what an absent member means, instead of by `default`: generators of clients take a member with a default
/// for one that is always there, and have their callers write it, or send it by themselves.
fn say_defaults(schema: &mut Value) {
    for member in members(schema.get_mut("properties")) {
        let Some(members) = member.as_object_mut() else { continue };
        let Some(default) = members.remove("default") else { continue };
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let words = members.get("description").and_then(Value::as_str).unwrap_or_default();
        members.insert("description".to_owned(), format!("{words} Default: `{default}`.").trim().into());
    }
}

/// Says of each object of which no member is described that it may have any. Without that, generators of clients take
/// it for one that has none.
fn open_free_forms(part: &mut Value) {
    match part {
        Value::Object(members) => {
            let is_object = match members.get("type") {
                Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
                kind => kind.is_some_and(|kind| kind == "object"),
            };
            if is_object && !members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(Value::Bool(true));
            }
            let described = members.iter_mut().filter(|(name, _)| !VALUES.contains(&name.as_str()));
            described.for_each(|(_, member)| open_free_forms(member));
        }
        Value::Array(items) => items.iter_mut().for_each(open_free_forms),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_never_null() {
        for (schema, expected) in [
            (
                json!({ "type": ["string", "null"], "maxLength": 9 }),
                json!({ "type": "string", "maxLength": 9 }),
            ),
            (
                json!({ "oneOf": [{ "type": "string", "enum": ["a"] }, { "type": "null" }] }),
                json!({ "type": "string", "enum": ["a"] }),
            ),
            (json!({ "type": "integer", "minimum": 1 }), json!({ "type": "integer", "minimum": 1 })),
        ] {
            let mut never = schema;
            never_null(&mut never);
            assert_eq!(never, expected);
        }
    }

    #[test]
    fn what_absence_means_is_said_in_words() {
        let mut schema = json!({ "properties": {
            "timeout": { "type": "string", "default": "30s", "description": "How long." },
            "enabled": { "type": "boolean", "default": true }
        } });
        say_defaults(&mut schema);
        let timeout = json!({ "type": "string", "description": "How long. Default: `30s`." });
        let enabled = json!({ "type": "boolean", "description": "Default: `true`." });
        assert_eq!(schema, json!({ "properties": { "timeout": timeout, "enabled": enabled } }));
    }

    #[test]
    fn an_object_of_which_no_member_is_described_may_have_any() {
        let mut schema = json!({
            "type": "object", "example": { "type": "object" },
            "properties": { "free": { "type": ["object", "null"] }, "closed": { "type": "object", "additionalProperties": false } }
        });
        open_free_forms(&mut schema);
        assert_eq!(schema["properties"]["free"]["additionalProperties"], true);
        assert_eq!(schema["properties"]["closed"]["additionalProperties"], false);
        assert!(
            schema.get("additionalProperties").is_none()
                && schema["example"]["additionalProperties"].is_null()
        );
    }
}

//! JavaScript values as JSON: results, errors, and text that is no Unicode.
//!
//! Nothing here looks up a global or a method of a prototype that is not the value's own business: a handler
//! that replaced `JSON.stringify` changes nothing.

use super::limits;
use rquickjs::object::Filter;
use rquickjs::{Ctx, Object, String as JsString, Value};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::fmt;

/// `value` as JSON text, or nothing for what JSON does not know (`undefined`, functions, symbols).
///
/// # Errors
/// What `toJSON` or a getter threw, and the `TypeError` for a cycle or a `BigInt`.
pub(super) fn stringify<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Option<String>, Value<'js>> {
    match ctx.json_stringify(value) {
        Ok(Some(text)) => Ok(Some(lossy(&text))),
        Ok(None) => Ok(None),
        Err(_) => Err(ctx.catch()),
    }
}

/// The result of a handler as it is stored, or the error that is stored in its place.
pub(super) fn result<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Box<RawValue>, Box<RawValue>> {
    match stringify(ctx, value) {
        Ok(text) => bounded("result", text.unwrap_or_else(|| "null".to_owned())),
        Err(thrown) => Err(error(ctx, thrown)),
    }
}

/// What is stored of a rejection with `null` or `undefined`.
pub(super) const WITHOUT_REASON: &str = r#"{"name":"Error","message":"handler rejected without a reason"}"#;

/// What a handler rejected with or threw, as it is stored.
pub(super) fn error<'js>(ctx: &Ctx<'js>, reason: Value<'js>) -> Box<RawValue> {
    if reason.is_null() || reason.is_undefined() {
        return RawValue::from_string(WITHOUT_REASON.to_owned()).unwrap_or_default();
    }
    if let Some(object) = reason.as_object().filter(|object| object.is_error()) {
        return describe(ctx, object);
    }
    let text = match stringify(ctx, reason) {
        Ok(Some(text)) => text,
        Ok(None) => return named("Error", "handler rejected with a value that JSON does not know"),
        Err(thrown) => match thrown.as_object().filter(|object| object.is_error()) {
            Some(object) => return describe(ctx, object),
            None => return named("Error", "handler rejected with a value that cannot become JSON"),
        },
    };
    bounded("error", text).unwrap_or_else(|refusal| refusal)
}

/// What made the engine fail, as it is stored: mostly something thrown.
pub(super) fn failure(ctx: &Ctx<'_>, failure: &rquickjs::Error) -> Box<RawValue> {
    match failure {
        rquickjs::Error::Exception => error(ctx, ctx.catch()),
        other => named("Error", &other.to_string()),
    }
}

/// The error of a handler that met the limit of its heap.
pub(super) fn out_of_memory() -> Box<RawValue> {
    named("MemoryLimitError", &format!("the handler used more than {} MiB of memory", limits::HEAP >> 20))
}

/// An error of ours.
pub(super) fn named(name: &str, message: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Named<'a> {
        name: &'a str,
        message: &'a str,
    }
    to_raw_value(&Named { name, message }).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An `Error` as `{name, message, stack, …own properties}`, without those that cannot become JSON.
fn describe<'js>(ctx: &Ctx<'js>, error: &Object<'js>) -> Box<RawValue> {
    let name = property(ctx, error, "name").unwrap_or_else(|| "Error".to_owned());
    let message = property(ctx, error, "message").unwrap_or_default();
    if name == "InternalError" && message == "out of memory" {
        return out_of_memory();
    }
    let trace = property(ctx, error, "stack").unwrap_or_default();
    // QuickJS leaves out the first line that every other engine has.
    let stack = if trace.starts_with(&name) { trace } else { format!("{name}: {message}\n{trace}") };

    let mut text = String::from("{");
    let mut put = |key: &str, value: &str| {
        let fits = text.len() + key.len() + value.len() < limits::OUTCOME / 2;
        if fits {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&quote(key));
            text.push(':');
            text.push_str(value);
        }
        fits
    };
    put("name", &quote(&name));
    put("message", &quote(&message));
    put("stack", &quote(stack.trim_end()));
    for key in error.own_keys::<String>(Filter::new().string().enum_only()) {
        let Some(key) = attempt(ctx, key) else { continue };
        if matches!(key.as_str(), "name" | "message" | "stack") {
            continue;
        }
        if let Some(value) = attempt(ctx, error.get::<_, Value>(key.as_str()))
            && let Ok(Some(value)) = stringify(ctx, value)
            && !put(&key, &value)
        {
            break;
        }
    }
    text.push('}');
    bounded("error", text).unwrap_or_else(|refusal| refusal)
}

/// A property, if it is text; a getter that throws has none.
pub(super) fn property<'js>(ctx: &Ctx<'js>, object: &Object<'js>, key: &str) -> Option<String> {
    let value: Value = attempt(ctx, object.get(key))?;
    value.as_string().map(lossy)
}

/// What `tried` gave, unless it threw; what it threw is forgotten.
pub(super) fn attempt<T>(ctx: &Ctx<'_>, tried: rquickjs::Result<T>) -> Option<T> {
    tried.map_err(|_| drop(ctx.catch())).ok()
}

/// Refuses what the database or a reader of it would choke on.
fn bounded(what: &str, text: String) -> Result<Box<RawValue>, Box<RawValue>> {
    if text.len() > limits::OUTCOME {
        return Err(named("RangeError", &format!("the {what} is larger than {} bytes", limits::OUTCOME)));
    }
    if depth(&text) > limits::DEPTH {
        return Err(named(
            "RangeError",
            &format!("the {what} is nested deeper than {} levels", limits::DEPTH),
        ));
    }
    RawValue::from_string(text).map_err(|_| named("TypeError", &format!("the {what} is not JSON")))
}

/// How deep arrays and objects nest in JSON text.
fn depth(text: &str) -> usize {
    let (mut deepest, mut depth, mut quoted, mut escaped) = (0, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text of a JavaScript string. Half of a surrogate pair is no character; it becomes U+FFFD.
pub(super) fn lossy(string: &JsString<'_>) -> String {
    string.to_string().unwrap_or_else(|_| {
        // As JSON every string is Unicode: a lone half is written as an escape.
        let json = string.ctx().json_stringify(string.clone()).ok().flatten();
        let json = json.and_then(|json| json.to_string().ok()).unwrap_or_default();
        serde_json::from_str::<Wtf8>(&json).map(|Wtf8(text)| text).unwrap_or_default()
    })
}

/// Text from a JSON string that may hold lone halves of surrogate pairs; `serde_json` hands those out as
/// bytes only.
struct Wtf8(String);

impl<'de> Deserialize<'de> for Wtf8 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Wtf8;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Wtf8, E> {
                Ok(Wtf8(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

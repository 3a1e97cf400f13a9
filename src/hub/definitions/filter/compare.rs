//! How the values of a filter and of a message compare: numbers by their value, also where one side wrote a text.

use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Whether two values are equal. A number or a boolean equals the text that says the same: forms know texts only.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    if a == b {
        return true;
    }
    match (a, b) {
        (Value::Number(_), Value::Number(_) | Value::String(_)) | (Value::String(_), Value::Number(_)) => {
            number(a).zip(number(b)).is_some_and(|(a, b)| a.compare(b) == Some(Ordering::Equal))
        }
        (Value::Bool(bool), Value::String(text)) | (Value::String(text), Value::Bool(bool)) => {
            text == if *bool { "true" } else { "false" }
        }
        _ => false,
    }
}

/// How `a` lies to `b`: as numbers if both are such, also as text; else as texts, such as dates of ISO 8601.
pub(super) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    if let Some((a, b)) = number(a).zip(number(b)) {
        return a.compare(b);
    }
    Some(a.as_str()?.cmp(b.as_str()?))
}

/// Whether there is nothing in it: null, an empty text, list or object.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value as text, if it is a simple one.
pub(super) fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(bool) => Some(Cow::Borrowed(if *bool { "true" } else { "false" })),
        _ => None,
    }
}

/// A number, whole where it can be.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }

    fn float(self) -> f64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "beside a fraction, a double is as near as one gets"
            )]
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            whole.map(Number::Whole).or(number.as_f64().map(Number::Float))
        }
        Value::String(text) => {
            let text = text.trim();
            // Rust reads `inf` and `nan` as numbers too.
            if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')) {
                return None;
            }
            let float = || text.parse().ok().filter(|float: &f64| float.is_finite()).map(Number::Float);
            text.parse().ok().map(Number::Whole).or_else(float)
        }
        _ => None,
    }
}

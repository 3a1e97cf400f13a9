//! The arguments of a call, each asked for by its place and name.

use super::ServiceError;
use crate::http::json_text::to_value;
use serde_json::value::RawValue;

/// The arguments of one call.
pub(super) struct Args(Vec<Box<RawValue>>);

impl Args {
    /// From a JSON array.
    pub(super) fn parse(args: &RawValue) -> Result<Self, ServiceError> {
        serde_json::from_str(args.get()).map(Self).map_err(|_| ServiceError::new("the arguments are no list"))
    }

    /// An argument, unless it is absent, `undefined` or `null`.
    pub(super) fn optional(&self, place: usize) -> Option<&RawValue> {
        self.0.get(place).map(|arg| &**arg).filter(|arg| arg.get() != "null")
    }

    /// An argument that must be there.
    pub(super) fn json(&self, place: usize, name: &str) -> Result<&RawValue, ServiceError> {
        self.optional(place).ok_or_else(|| ServiceError::new(format!("the argument {name} is missing")))
    }

    /// A text that must be there and not be empty. A number will do: identifiers are either.
    pub(super) fn text(&self, place: usize, name: &str) -> Result<String, ServiceError> {
        let text = match to_value(self.json(place, name)?.get()) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text),
            Some(serde_json::Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        text.ok_or_else(|| ServiceError::new(format!("the argument {name} is no text")))
    }
}

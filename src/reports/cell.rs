//! One value of a report's answer, as the formats write it.

use serde_json::value::RawValue;

/// One value of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    /// A number or a truth value, as JSON writes it.
    Plain(String),
    Text(String),
}

impl Cell {
    pub(super) fn of(value: Option<Box<RawValue>>) -> serde_json::Result<Self> {
        let Some(value) = value else { return Ok(Self::Null) };
        Ok(match value.get() {
            "null" => Self::Null,
            text if text.starts_with('"') => Self::Text(serde_json::from_str(text)?),
            text if text.starts_with(['{', '[']) => Self::Text(text.to_owned()),
            text => Self::Plain(text.to_owned()),
        })
    }
}

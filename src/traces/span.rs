//! What is exported: a span that has ended.

use super::context::Context;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// What a span is, in the numbers of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something of this process alone.
    Internal = 1,
    /// A request to us.
    Server = 2,
    /// A request of ours.
    Client = 3,
    /// Work on what was pushed before.
    Consumer = 5,
}

/// A span that has ended. No body and no value of a header is ever in it.
#[derive(Debug)]
pub struct Span {
    /// What was done, and with what: few different ones.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its trace, and its own id.
    pub context: Context,
    /// The span that it is a child of; a trace begins with none.
    pub parent: Option<Context>,
    /// When it began, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
    /// What is said of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<i16> for Value {
    fn from(number: i16) -> Self {
        Self::Number(number.into())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

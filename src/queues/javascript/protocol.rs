//! What parent and child say to each other: one JSON document a line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// From the parent to the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order<'a> {
    /// Run a handler on a message.
    Run {
        /// The handler, or nothing: the same as before.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Cow<'a, str>>,
        /// The handler's file name in stack traces.
        name: Cow<'a, str>,
        /// Milliseconds from now to the deadline.
        timeout_ms: u64,
        /// Which attempt this is, counted from 1.
        attempt: u16,
        /// The attempts that the message has.
        max_attempts: u16,
        /// The message; without one, the handler is only loaded, to see whether it can be.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<Cow<'a, RawValue>>,
        /// The W3C trace context of the attempt.
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<Cow<'a, str>>,
    },
    /// A service has answered.
    Return {
        /// The number of the call.
        id: u64,
        /// Its value.
        value: Box<RawValue>,
    },
    /// A service has refused.
    Refuse {
        /// The number of the call.
        id: u64,
        /// Why.
        error: ServiceError,
    },
    /// Hand over the log of the run, which is past its deadline, and die.
    Stop,
}

/// From the child to the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The handler calls a service.
    Call {
        /// The number that the answer is to carry.
        id: u64,
        /// One of the seven services.
        service: String,
        /// Its method.
        method: String,
        /// The arguments, a JSON array.
        args: Box<RawValue>,
    },
    /// The run is over, and the child ready for the next, unless it was told to stop.
    End {
        /// How it ended.
        end: End,
        /// What it logged.
        logs: Vec<LogLine>,
    },
}

/// How a run ended, as the child knows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// With this result.
    Resolved(Box<RawValue>),
    /// With this error.
    Rejected(Box<RawValue>),
    /// With this error, and trying again is of no use.
    Final(Box<RawValue>),
    /// With this error, and another try: after so many milliseconds, or by the queue's backoff.
    Retry(Box<RawValue>, Option<u64>),
    /// With this error, and another try after so many milliseconds, which does not count.
    Later(Box<RawValue>, u64),
    /// Not before its deadline.
    TimedOut,
}

/// One line that a handler wrote to its console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// `debug`, `log`, `info`, `warn` or `error`.
    #[schema(example = "info")]
    pub level: Cow<'static, str>,
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// The text.
    #[schema(example = "resized to 100 pixels")]
    pub text: String,
}

/// Why a service did not do what it was asked; in JavaScript, an `Error` with these properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceError {
    /// What went wrong, without secrets and addresses.
    pub message: String,
    /// The HTTP status that the service answered with, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl ServiceError {
    /// A refusal that is no answer of the service itself.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: None }
    }
}

/// One document as one line. Raw JSON keeps the line breaks it was sent with; outside of strings, where
/// alone they can be, a space means the same.
pub(super) fn encode(document: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(document).expect("these types have text keys and no failing parts");
    for byte in &mut line {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

/// The document of one line.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_one_line_whatever_line_breaks_it_was_sent_with() {
        let message: Box<RawValue> = serde_json::from_str("{\n \"a\":\r\n \"b\\nc\"}").unwrap();
        let order = Order::Run {
            source: None,
            name: "q".into(),
            timeout_ms: 1,
            attempt: 1,
            max_attempts: 1,
            message: Some(Cow::Borrowed(&*message)),
            traceparent: None,
        };
        let line = encode(&order);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let Order::Run { message: Some(read), .. } = decode(&line).unwrap() else { panic!("another order") };
        let value: serde_json::Value = serde_json::from_str(read.get()).unwrap();
        assert_eq!(value, serde_json::json!({"a": "b\nc"}));
    }
}

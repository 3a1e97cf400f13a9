//! What a call of a service answers, and the answers that many give.

use crate::queues::javascript::protocol::ServiceError;
use serde_json::value::{RawValue, to_raw_value};

/// The answer to a call.
pub type Answer = Result<Box<RawValue>, ServiceError>;

pub(super) fn value(value: &impl serde::Serialize) -> Answer {
    to_raw_value(value).map_err(|_| ServiceError::new("the answer cannot become JSON"))
}

pub(super) fn nothing() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

pub(super) fn not_configured(service: &str) -> ServiceError {
    ServiceError::new(format!("{service} is not configured"))
}

pub(super) fn unknown(service: &str, method: &str) -> ServiceError {
    ServiceError::new(format!("{service} has no method {method}"))
}

//! Handlers written in Rust, registered by a program that uses the crate as a library.

use super::outcome::End;
use super::when::LONGEST_DELAY;
use crate::http::json_text::raw;
use crate::traces::{Context, Origin};
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::time::Duration;
use uuid::Uuid;

/// A message as a native handler gets it.
#[derive(Debug)]
pub struct Message {
    /// Its id: the same at every attempt, so a good idempotency key for what the handler calls.
    pub id: Uuid,
    /// Which attempt this is, counted from 1.
    pub attempt: u16,
    /// The attempts it has, as its queue's `max_attempts` says; where that is absent, those of a handler that asks for
    /// another try.
    pub max_attempts: u16,
    /// The body as it was sent.
    pub request: Box<RawValue>,
    /// What the handler causes comes of this.
    pub(crate) origin: Origin,
}

impl Message {
    /// Whether no other attempt follows, unless this one puts the message off.
    pub fn is_last(&self) -> bool {
        self.attempt >= self.max_attempts
    }

    /// The W3C trace context of this attempt, to be sent as `traceparent` with what the handler asks of others; none when
    /// there is no trace. What the handler enqueues has it, and the name of the request too, by
    /// [`crate::Client::on_behalf_of`].
    pub fn traceparent(&self) -> Option<String> {
        self.origin.trace.as_ref().map(Context::to_string)
    }

    /// The `x-request-id` of the request that the message comes of, over whichever handlers.
    pub fn request_id(&self) -> Option<&str> {
        self.origin.request_id.as_deref()
    }

    /// The body as a value of yours.
    ///
    /// # Errors
    /// The body has another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(self.request.get()).map_err(|error| {
            Failure::Reject(serde_json::json!({ "name": "TypeError", "message": error.to_string() }))
        })
    }
}

/// Why a handler did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The message becomes ERROR with this (unless the definition grants more attempts).
    Reject(serde_json::Value),
    /// It failed in passing: the message is tried again, after this time or by the definition's backoff.
    Retry(serde_json::Value, Option<Duration>),
    /// The message becomes ERROR with this: trying again is of no use.
    Final(serde_json::Value),
    /// Not now: the message is tried again after this time, and this attempt does not count. That goes on for as long
    /// as `retry.max_age` says, 30 days if it is absent.
    Later(serde_json::Value, Duration),
}

impl Failure {
    /// Not now: again after this time, without a count. See [`Failure::Later`].
    pub fn later(after: Duration) -> Self {
        let words = format!("put off by its handler for {}", humantime::format_duration(after));
        Self::Later(serde_json::json!({ "name": "Later", "message": words }), after)
    }
}

/// Handles the messages of a queue whose definition says `{"kind": "native", "name": …}`.
///
/// Any `async fn(Message) -> Result<serde_json::Value, Failure>` is one.
pub trait Handler: Send + Sync + 'static {
    /// Handles one message. It may be dropped at any await: when its time is over, when the message is
    /// deleted, when the worker lost its lease.
    fn handle(&self, message: Message) -> BoxFuture<'static, Result<serde_json::Value, Failure>>;
}

impl<F, Fut> Handler for F
where
    F: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<serde_json::Value, Failure>> + Send + 'static,
{
    fn handle(&self, message: Message) -> BoxFuture<'static, Result<serde_json::Value, Failure>> {
        Box::pin(self(message))
    }
}

/// One attempt.
pub(super) async fn attempt(handler: &dyn Handler, message: Message) -> End {
    match handler.handle(message).await {
        Ok(result) => End::Complete(raw(&result)),
        Err(Failure::Reject(error)) => End::Reject(raw(&error)),
        Err(Failure::Retry(error, after)) => End::Retry(raw(&error), after.map(bounded)),
        Err(Failure::Final(error)) => End::Fail(raw(&error)),
        Err(Failure::Later(error, after)) => End::Later(raw(&error), Some(bounded(after))),
    }
}

/// Whole milliseconds, as PostgreSQL's intervals refuse nanoseconds in sqlx, and no longer than a push may be delayed.
fn bounded(after: Duration) -> Duration {
    Duration::from_millis(u64::try_from(after.min(LONGEST_DELAY).as_millis()).unwrap_or(u64::MAX))
}

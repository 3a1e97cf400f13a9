//! Remote workers say how what they claimed has ended.

use super::state::{Queues, message_id};
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::duration::{self, DurationText};
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::queues::access::no_message;
use crate::queues::catalog::Queue;
use crate::queues::name::QueueName;
use crate::queues::outcome::{self, End, Outcome};
use crate::queues::store::{ends, messages};
use crate::queues::when::LONGEST_DELAY;
use crate::worker::store::Outside;
use crate::worker::{Ended, store as engine};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;
use uuid::Uuid;

/// The result of a claimed message.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Completion {
    /// The claim's lease.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
    /// Any JSON value; null if absent.
    #[schema(value_type = Option<serde_json::Value>, example = json!({"greeting": "hello world"}))]
    result: Option<Box<RawValue>>,
}

/// Ends a claimed message: COMPLETE.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/complete", tag = "queue workers", operation_id = "complete_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    request_body = Completion,
    responses(
        (status = 204, description = "It is COMPLETE with this result; also when the same is said again"),
        (status = 409, description = "The lease is over, or its attempt has ended otherwise: nothing was changed", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn complete(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let queue = queues.queue_for_worker(&name, &caller).await?;
    let Completion { lease, result } = body::read_json_as(&headers, body, &queues.limits).await?;
    settle(&queues, &queue, &id, &lease, End::Complete(result.unwrap_or_else(|| RawValue::NULL.to_owned())))
        .await
}

/// Why a claimed message failed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Failing {
    /// The claim's lease.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
    /// Any JSON value; null becomes an error that says no reason was given.
    #[schema(value_type = Option<serde_json::Value>, example = json!({"message": "the printer is out of paper"}))]
    error: Option<Box<RawValue>>,
    /// `true`: try again by the queue's backoff; a duration such as `"10s"`: after that; else it is final.
    #[serde(default)]
    #[schema(value_type = TryAgain, default = false)]
    retry: TryAgain,
    /// Whether the attempt counts. `false`, beside a `retry`, puts the message off: again without a count, for as long as
    /// the queue's `retry.max_age` allows, 30 days if it is absent.
    #[serde(default = "yes")]
    #[schema(default = true)]
    counts: bool,
}

fn yes() -> bool {
    true
}

/// Whether to try again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum TryAgain {
    /// By the queue's backoff, or not.
    Flag(bool),
    /// After this time.
    #[schema(value_type = DurationText)]
    After(String),
}

impl Default for TryAgain {
    fn default() -> Self {
        Self::Flag(false)
    }
}

impl Failing {
    /// The end that it says.
    fn end(self) -> Result<End> {
        let error = self.error.unwrap_or_else(|| outcome::error("Error", "the worker gave no reason"));
        let after = match self.retry {
            TryAgain::Flag(false) if !self.counts => {
                let words = "must be true where the message is not tried again";
                return Err(Error::invalid("/counts", "const", words));
            }
            TryAgain::Flag(false) => return Ok(End::Fail(error)),
            TryAgain::Flag(true) => None,
            TryAgain::After(text) => {
                let after = duration::read(&text).filter(|after| *after <= LONGEST_DELAY);
                let words = "must be a boolean or a duration such as 10s, ten years at most";
                Some(after.ok_or_else(|| Error::invalid("/retry", "format", words))?)
            }
        };
        Ok(if self.counts { End::Retry(error, after) } else { End::Later(error, after) })
    }
}

/// Ends an attempt without a result: ERROR, or PENDING again.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/fail", tag = "queue workers", operation_id = "fail_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    request_body = Failing,
    responses(
        (status = 204, description = "The attempt has ended so; also when the same is said again"),
        (status = 409, description = "The lease is over, or its attempt has ended otherwise: nothing was changed", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn fail(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let queue = queues.queue_for_worker(&name, &caller).await?;
    let failing: Failing = body::read_json_as(&headers, body, &queues.limits).await?;
    let lease = failing.lease.clone();
    let end = failing.end()?;
    settle(&queues, &queue, &id, &lease, end).await
}

async fn settle(queues: &Queues, queue: &Queue, id: &str, lease: &str, end: End) -> Result<StatusCode> {
    let id = existing(queues, queue, id).await?;
    let lease: Uuid = lease.parse().map_err(|_| stale())?;
    let db = &queues.access.db.api;
    #[cfg(feature = "planted-bugs")]
    crate::planted::lend_again(db, queue.id, id, lease).await?;
    let counts =
        if let Some(Outside { claim, holder, terms }) = engine::outside(db, queue.id, id, lease).await? {
            // What the definition said at the claim decides, whatever it says now.
            let terms = terms.and_then(|terms| serde_json::from_str(&terms).ok());
            let outcome = Some(Outcome { end, logs: None, worker: holder, terms });
            let counts = queues.settler.end_now(Ended { claim, outcome }).await.map_err(stopping)?;
            queues.freed(queue);
            counts
        } else {
            // The lease is over. The worker comes too late, or says again what counts already: its answer was lost.
            let stored = ends::stored(db, &[(queue.id, id, lease)]).await?;
            stored.first().is_some_and(|stored| end.is(stored))
        };
    #[cfg(feature = "planted-bugs")]
    let counts = counts || crate::planted::any_row(db, queue.id, id, lease).await?;
    if counts { Ok(StatusCode::NO_CONTENT) } else { Err(stale()) }
}

/// The id, if this queue has such a message.
pub(super) async fn existing(queues: &Queues, queue: &Queue, id: &str) -> Result<Uuid> {
    let id = message_id(id)?;
    if messages::exists(&queues.access.db.api, queue.id, id).await? { Ok(id) } else { Err(no_message()) }
}

pub(super) fn stale() -> Error {
    Error::Conflict("this lease is over: the message was taken back, or has ended otherwise".to_owned())
}

pub(super) fn stopping(_: crate::worker::Stopping) -> Error {
    Error::Unavailable("the server is stopping".to_owned(), Duration::from_secs(1))
}

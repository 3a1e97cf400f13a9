//! Remote workers: any program, in any language, that claims messages over HTTP.

use super::remote::stopping;
use super::state::Queues;
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result};
use crate::http::duration::{self, DurationText};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::queues::catalog::Queue;
use crate::queues::definition::Handler;
use crate::queues::name::QueueName;
use crate::queues::outcome::Outcome;
use crate::queues::remote::RemoteMessages;
use crate::queues::runners;
use crate::worker::Ended;
use crate::worker::remote::{Answer, Handed};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// The longest that a claim waits for messages.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How to claim.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Claiming {
    /// How long to wait for a message, such as `20s`; at most a minute. Absent: not at all.
    #[param(inline, value_type = Option<DurationText>)]
    wait: Option<String>,
    /// At most this many messages, 1 to 100; 1 if absent.
    #[param(minimum = 1, maximum = 100, default = 1)]
    max: Option<i32>,
}

/// A message that a remote worker has claimed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ClaimedMessage)]
pub(super) struct Claimed {
    /// The message's id: the same at every attempt.
    id: Uuid,
    /// Its body.
    #[schema(value_type = serde_json::Value, example = json!({"hello": "world"}))]
    request: Box<RawValue>,
    /// Which attempt this is, from 1.
    #[schema(example = 1)]
    attempt: i16,
    /// The attempts it has, as its queue's `max_attempts` says; where that is absent, those of a worker that asks for
    /// another try.
    #[schema(minimum = 1, example = 3)]
    max_attempts: u16,
    /// Whether no other attempt follows this one, unless the worker puts the message off.
    #[schema(example = false)]
    last: bool,
    /// To be given back with every call about this attempt.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
    /// The W3C trace context of this attempt, to be sent with what the worker asks of others; only if there is a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    traceparent: Option<String>,
}

/// Claims messages of a queue whose handler is `worker`, waiting for some if there are none. Who waits longest is
/// served first. When the queue has a `concurrency`, no more messages than that are claimed at once, over all
/// workers; without one, as many as are asked for.
#[utoipa::path(
    post, path = "/queues/{queue}/claim", tag = "queue workers", operation_id = "claim_messages",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), Claiming),
    responses(
        (status = 200, description = "The messages claimed, possibly none", body = Vec<Claimed>),
        (status = 409, description = "The queue's handler is not `worker`", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn claim(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    query: Result<Query<Claiming>>,
) -> Result<Json<Vec<Claimed>>> {
    queues.queue_for_worker(&name, &caller).await?;
    let Query(Claiming { wait, max }) = query?;
    let wait = wait.map_or(Some(Duration::ZERO), |text| duration::read(&text));
    let wait = wait.ok_or_else(|| Error::BadRequest("`wait` must be a duration such as 20s".to_owned()))?;
    let max = max.unwrap_or(1);
    if !(1..=100).contains(&max) {
        return Err(Error::BadRequest("`max` must lie between 1 and 100".to_owned()));
    }
    let mut left = wait.min(LONGEST_WAIT);
    let deadline = Instant::now() + left;
    loop {
        // Definitions change while one waits.
        let queue = queues.access.queue(&name).await?;
        if !matches!(queue.definition.handler, Some(Handler::Worker)) {
            return Err(Error::Conflict(
                "this queue's messages are not handled by remote workers".to_owned(),
            ));
        }
        let claimed = match queues.waiting.claim(queue.id, &caller.subject, max, left).await {
            Answer::Handed(handed) => valid(&queues, &queue, handed).await?,
            Answer::Nothing => return Ok(Json(Vec::new())),
            Answer::Closed => continue,
            Answer::Failed(error) => return Err(error.into()),
        };
        left = deadline.saturating_duration_since(Instant::now());
        if !claimed.is_empty() || left.is_zero() {
            return Ok(Json(claimed));
        }
    }
}

/// Those that may run, by the queue's schema and what replaces them; the others end here. A client that hangs up
/// meanwhile has claimed nothing.
async fn valid(queues: &Queues, queue: &Queue, handed: Handed<RemoteMessages>) -> Result<Vec<Claimed>> {
    let mut ended = HashSet::new();
    for (claim, loaded) in handed.items() {
        if let Some(end) = runners::unfit(queue, loaded).await {
            let (claim, outcome) =
                (claim.clone(), Some(Outcome::under(queue.definition.options.terms.clone(), end)));
            ended.insert(claim.lease);
            queues.settler.end_now(Ended { claim, outcome }).await.map_err(stopping)?;
        }
    }
    let mut claimed = handed.keep();
    claimed.retain(|(claim, _)| !ended.contains(&claim.lease));
    if !ended.is_empty() {
        queues.freed(queue);
    }
    let max_attempts = queue.definition.options.terms.max_attempts();
    Ok(claimed
        .into_iter()
        .map(|(claim, loaded)| Claimed {
            traceparent: queues
                .runners
                .tracer
                .attempt(loaded.origin.trace.as_ref(), claim.tried(claim.item))
                .map(|context| context.to_string()),
            id: claim.item,
            request: loaded.request.0,
            attempt: claim.attempt,
            max_attempts,
            last: claim.attempt.unsigned_abs() >= max_attempts,
            lease: claim.lease.to_string(),
        })
        .collect())
}

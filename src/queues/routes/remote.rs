//! Remote workers: any program, in any language, that claims messages over HTTP and says how they ended.

use super::{Queues, message_id};
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::{Path, Query};
use crate::http::openapi::{BodyProblems, Problems};
use crate::queues::access::no_message;
use crate::queues::catalog::Queue;
use crate::queues::definition::Handler;
use crate::queues::outcome::{End, Outcome};
use crate::queues::runners;
use crate::queues::store::{ends, messages};
use crate::queues::when::LONGEST_DELAY;
use crate::worker::{Claim, Ended, store as engine};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// The longest that a claim waits for messages.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Other processes' pushes are found by asking again this often.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How to claim.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Claiming {
    /// How long to wait for a message, such as `20s`; at most a minute. Absent: not at all.
    wait: Option<String>,
    /// At most this many messages, 1 to 100; 1 if absent.
    max: Option<i32>,
}

/// A message that a remote worker has claimed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Claimed {
    /// The message's id: the same at every attempt.
    id: Uuid,
    /// Its body.
    #[schema(value_type = serde_json::Value)]
    request: Box<RawValue>,
    /// Which attempt this is, from 1.
    attempt: i16,
    /// To be given back with every call about this attempt.
    lease: String,
}

/// Claims messages of a queue whose handler is `worker`, waiting for some if there are none.
#[utoipa::path(
    post, path = "/queues/{queue}/claim", tag = "queue workers", operation_id = "claim_messages",
    params(("queue" = String, Path, description = "The queue's name"), Claiming),
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
    let queue = queues.queue_for_worker(&name, &caller).await?;
    let Query(Claiming { wait, max }) = query?;
    let wait = wait.map_or(Ok(Duration::ZERO), |text| humantime::parse_duration(text.trim()));
    let wait = wait.map_err(|_| Error::BadRequest("`wait` must be a duration such as 20s".to_owned()))?;
    let max = max.unwrap_or(1);
    if !(1..=100).contains(&max) {
        return Err(Error::BadRequest("`max` must lie between 1 and 100".to_owned()));
    }
    let deadline = Instant::now() + wait.min(LONGEST_WAIT);
    let bell = queues.wake.watch(queue.id);
    loop {
        // Definitions change while one waits.
        let queue = queues.access.queue(&name).await?;
        if !matches!(queue.definition.handler, Some(Handler::Worker)) {
            return Err(Error::Conflict(
                "this queue's messages are not handled by remote workers".to_owned(),
            ));
        }
        // Listening begins before looking, so that nothing slips in between.
        let rung = bell.notified();
        if !queue.paused {
            let claimed = claim_now(&queues, &queue, max, &caller.subject).await?;
            if !claimed.is_empty() {
                return Ok(Json(claimed));
            }
        }
        let now = Instant::now();
        if now >= deadline || queues.stopping.is_cancelled() {
            return Ok(Json(Vec::new()));
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(deadline.min(now + ASK_AGAIN)) => {}
            () = queues.stopping.cancelled() => {}
        }
    }
}

/// Claims what there is. A client that hangs up in the middle is a worker that died: its lease runs out.
async fn claim_now(queues: &Queues, queue: &Queue, max: i32, holder: &str) -> Result<Vec<Claimed>> {
    let claims = engine::claim_outside(&queues.access.db.api, queue.id, max, holder, queues.lease).await?;
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let (_, loaded) = ends::load(&queues.access.db.api, &claims).await?;
    let mut requests: HashMap<Uuid, ends::Loaded> = loaded.into_iter().map(|l| (l.id, l)).collect();
    let mut claimed = Vec::with_capacity(claims.len());
    for claim in claims {
        let Some(loaded) = requests.remove(&claim.item) else {
            // Deleted before it could run: its lease ends here.
            queues.settler.end_now(Ended { claim, outcome: None }).await.map_err(stopping)?;
            continue;
        };
        if !loaded.validated
            && let Some(schema) = &queue.schema
            && let Err(error) = runners::hold_against(schema, &loaded).await
        {
            let outcome = Some(runners::invalid(&error).into());
            queues.settler.end_now(Ended { claim, outcome }).await.map_err(stopping)?;
            continue;
        }
        let Claim { item, attempt, lease, .. } = claim;
        claimed.push(Claimed { id: item, request: loaded.request.0, attempt, lease: lease.to_string() });
    }
    Ok(claimed)
}

/// A call about a claimed message.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Heartbeat {
    /// The claim's lease.
    lease: String,
}

/// Until when a lease lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    /// The claim's lease.
    lease: String,
    /// When it ends unless another heartbeat comes.
    expires_at: DateTime<Utc>,
}

/// Says that the worker lives: its lease goes on.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/heartbeat", tag = "queue workers", operation_id = "heartbeat_message",
    params(("queue" = String, Path, description = "The queue's name"), ("id" = String, Path, description = "The message's id")),
    request_body = Heartbeat,
    responses(
        (status = 200, description = "The lease goes on", body = Alive),
        (status = 409, description = "The lease is over: stop working on it", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn heartbeat(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Alive>> {
    let queue = queues.queue_for_worker(&name, &caller).await?;
    let Heartbeat { lease } = body::read_json_as(&headers, body, &queues.limits).await?;
    let id = existing(&queues, &queue, &id).await?;
    let number = lease.parse().map_err(|_| stale())?;
    let expires_at =
        engine::extend(&queues.access.db.api, queue.id, id, number, queues.lease).await?.ok_or_else(stale)?;
    Ok(Json(Alive { lease, expires_at }))
}

/// The result of a claimed message.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Completion {
    /// The claim's lease.
    lease: String,
    /// Any JSON value; null if absent.
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
}

/// Ends a claimed message: COMPLETE.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/complete", tag = "queue workers", operation_id = "complete_message",
    params(("queue" = String, Path, description = "The queue's name"), ("id" = String, Path, description = "The message's id")),
    request_body = Completion,
    responses(
        (status = 204, description = "It is COMPLETE"),
        (status = 409, description = "The lease is over: nothing was changed", body = Problem, content_type = "application/problem+json"),
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
pub(super) struct Failing {
    /// The claim's lease.
    lease: String,
    /// Any JSON value; null becomes an error that says no reason was given.
    #[schema(value_type = Option<serde_json::Value>)]
    error: Option<Box<RawValue>>,
    /// `true`: try again by the queue's backoff; a duration such as `"10s"`: after that; else it is final.
    #[serde(default)]
    retry: Retry,
}

/// Whether to try again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Retry {
    /// By the queue's backoff, or not.
    Flag(bool),
    /// After this time.
    After(String),
}

impl Default for Retry {
    fn default() -> Self {
        Self::Flag(false)
    }
}

/// Ends an attempt without a result: ERROR, or PENDING again.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/fail", tag = "queue workers", operation_id = "fail_message",
    params(("queue" = String, Path, description = "The queue's name"), ("id" = String, Path, description = "The message's id")),
    request_body = Failing,
    responses(
        (status = 204, description = "The attempt has ended"),
        (status = 409, description = "The lease is over: nothing was changed", body = Problem, content_type = "application/problem+json"),
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
    let Failing { lease, error, retry } = body::read_json_as(&headers, body, &queues.limits).await?;
    let error = error.unwrap_or_else(|| crate::queues::outcome::error("Error", "the worker gave no reason"));
    let end = match retry {
        Retry::Flag(false) => End::Fail(error),
        Retry::Flag(true) => End::Retry(error, None),
        Retry::After(text) => {
            let after = humantime::parse_duration(text.trim()).ok().filter(|after| *after <= LONGEST_DELAY);
            let after = after.ok_or_else(|| {
                let words = "must be a boolean or a duration such as 10s, ten years at most";
                Error::invalid("/retry", "format", words)
            })?;
            End::Retry(
                error,
                Some(Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))),
            )
        }
    };
    settle(&queues, &queue, &id, &lease, end).await
}

async fn settle(queues: &Queues, queue: &Queue, id: &str, lease: &str, end: End) -> Result<StatusCode> {
    let id = existing(queues, queue, id).await?;
    let lease: Uuid = lease.parse().map_err(|_| stale())?;
    #[cfg(feature = "planted-bugs")]
    crate::planted::lend_again(&queues.access.db.api, queue.id, id, lease).await?;
    let (claim, worker) =
        engine::outside(&queues.access.db.api, queue.id, id, lease).await?.ok_or_else(stale)?;
    let outcome = Some(Outcome { end, logs: None, worker });
    let counted = queues.settler.end_now(Ended { claim, outcome }).await.map_err(stopping)?;
    #[cfg(feature = "planted-bugs")]
    let counted = counted || crate::planted::any_row(&queues.access.db.api, queue.id, id, lease).await?;
    // The lease was there a moment ago. It may be gone since this very end was written, and the word of it lost.
    if counted || ends::has_ended(&queues.access.db.api, queue.id, id, lease).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(stale())
}

/// The id, if this queue has such a message.
async fn existing(queues: &Queues, queue: &Queue, id: &str) -> Result<Uuid> {
    let id = message_id(id)?;
    if messages::exists(&queues.access.db.api, queue.id, id).await? { Ok(id) } else { Err(no_message()) }
}

fn stale() -> Error {
    Error::Conflict("this lease is over: the message was taken back, or has ended".to_owned())
}

fn stopping(_: crate::worker::Stopping) -> Error {
    Error::Unavailable("the server is stopping".to_owned(), Duration::from_secs(1))
}

//! What administrators do with a queue's messages: list, pause, resume, run again.

use super::state::{Queues, message_id};
use super::view::{Message, MessageStatus};
use crate::auth::{Authenticated, Caller};
use crate::db;
use crate::db::ids::{floor, within_ids};
use crate::error::{Error, Problem, Result, is_held, was_cut_off};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::queues::access::no_message;
use crate::queues::catalog::Queue;
use crate::queues::identity::is_label;
use crate::queues::name::QueueName;
use crate::queues::store::definitions;
use crate::queues::store::listing::{self, Wanted};
use crate::queues::store::messages::{self, Filter};
use crate::queues::uniqueness;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Messages that are run again in one statement.
const PART: i64 = 500;

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// PENDING, INPROGRESS, COMPLETE or ERROR.
    #[param(inline, value_type = Option<MessageStatus>)]
    status: Option<String>,
    /// The own key of the messages, as they were pushed with it.
    #[param(min_length = 1, max_length = 255, example = "booking:42")]
    key: Option<String>,
    /// Pushed at or after this moment (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Pushed before this moment (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    #[param(value_type = Option<Uuid>)]
    cursor: Option<String>,
    /// 1 to 500 messages; 50 if absent.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct QueueMessagePage {
    /// The messages.
    messages: Vec<Message>,
    /// The cursor of the next page; null on the last one. A page that was searched for in many messages may have
    /// fewer than were asked for, even none, and yet a next one.
    next: Option<Uuid>,
}

/// Lists messages, newest first.
#[utoipa::path(
    get, path = "/queues/{queue}/messages", tag = "queue administration", operation_id = "list_messages",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), Listing),
    responses((status = 200, description = "A page", body = QueueMessagePage), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    query: Result<Query<Listing>>,
) -> Result<Json<QueueMessagePage>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    let Query(listing) = query?;
    if let Some(status) = listing.status.as_deref()
        && !["PENDING", "INPROGRESS", "COMPLETE", "ERROR"].contains(&status)
    {
        return Err(Error::BadRequest("`status` is one of PENDING, INPROGRESS, COMPLETE, ERROR".to_owned()));
    }
    if listing.key.as_deref().is_some_and(|key| !is_label(key)) {
        return Err(Error::BadRequest("`key` must have 1 to 255 characters, without U+0000".to_owned()));
    }
    let limit = listing.limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        return Err(Error::BadRequest("`limit` must lie between 1 and 500".to_owned()));
    }
    let before = listing
        .cursor
        .map(|text| {
            Uuid::try_parse(&text).map_err(|_| Error::BadRequest("`cursor` is not one of ours".to_owned()))
        })
        .transpose()?;
    let from = listing.created_after.map(|at| floor(within_ids(at))).unwrap_or_default();
    let to = listing.created_before.map_or(Uuid::max(), |at| floor(within_ids(at)));
    let to = before.unwrap_or(Uuid::max()).min(to);
    let page = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move {
            messages::one_moment(&mut *tx).await?;
            let (status, key) = (listing.status.as_deref(), listing.key.as_deref());
            let wanted = Wanted { status, key, from, to, limit: limit + 1 };
            Ok(listing::page(tx, queue.id, &wanted).await?)
        })
    })
    .await?;
    let mut rows = page.rows;
    let full = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > full;
    rows.truncate(full);
    let next = rows.last().filter(|_| more).map(|row| row.id).or(page.stopped_at);
    let messages = rows.into_iter().map(|row| Message::of(&name, row)).collect();
    Ok(Json(QueueMessagePage { messages, next }))
}

/// Whether a queue is paused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Paused {
    /// The queue's name.
    #[schema(example = "myQueue")]
    queue: String,
    /// Whether nothing is claimed from it.
    paused: bool,
}

/// Stops claiming from a queue. Pushes are taken, what runs finishes.
#[utoipa::path(
    post, path = "/queues/{queue}/pause", tag = "queue administration", operation_id = "pause_queue",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    responses((status = 200, description = "It is paused", body = Paused), Problems),
)]
pub(super) async fn pause(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
) -> Result<Json<Paused>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    set_paused(&queues, &queue, true, &caller).await
}

/// Claims from a queue again.
#[utoipa::path(
    post, path = "/queues/{queue}/resume", tag = "queue administration", operation_id = "resume_queue",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    responses((status = 200, description = "It runs", body = Paused), Problems),
)]
pub(super) async fn resume(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
) -> Result<Json<Paused>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    set_paused(&queues, &queue, false, &caller).await
}

async fn set_paused(queues: &Queues, queue: &Queue, paused: bool, caller: &Caller) -> Result<Json<Paused>> {
    let (name, by) = (queue.name.clone(), Some(caller.subject.clone()).filter(|by| !by.is_empty()));
    let there = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move { Ok(definitions::set_paused(tx, &name, paused, by.as_deref()).await?) })
    })
    .await?;
    if !there {
        return Err(Error::NotFound("there is no such queue".to_owned()));
    }
    queues.changed().await?;
    if !paused {
        queues.wake.ready(queue.id, i16::MIN);
    }
    Ok(Json(Paused { queue: queue.name.clone(), paused }))
}

/// Runs a message in ERROR again. Its attempts count from the start.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/retry", tag = "queue administration", operation_id = "retry_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    responses(
        (status = 200, description = "It is PENDING again", body = Message),
        (status = 409, description = "It is not in ERROR; or another message, which has not ended, holds its value, and `held_by` names it", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn retry(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Message>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    let id = message_id(&id)?;
    let again = run_again(&queues, &queue, Some(id), &Filter::default(), None, 1).await;
    let again = again.map_err(|error| if is_held(&error) { uniqueness::held() } else { error.into() })?;
    let row = messages::get(&queues.access.db.api, queue.id, id).await?.ok_or_else(no_message)?;
    let Some(again) = again.first() else {
        return Err(Error::Conflict("only a message in ERROR can be run again".to_owned()));
    };
    if let Some(by) = again.held_by {
        let words = format!("message {by}, which has not ended, holds the value of this one");
        return Err(Error::Taken(words, by));
    }
    queues.wake.ready(queue.id, again.rank);
    Ok(Json(Message::of(&name, row)))
}

/// Runs messages in ERROR again, by the rules of the queue.
async fn run_again(
    queues: &Queues,
    queue: &Queue,
    one: Option<Uuid>,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<messages::Again>> {
    let db = &queues.access.db.api;
    if queue.definition.options.unique.is_some() {
        messages::retry_unique(db, queue.id, one, filter, after, limit).await
    } else {
        messages::retry(db, queue.id, one, filter, after, limit).await
    }
}

/// Which messages to run again.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Again {
    /// Pushed at or after this moment (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Pushed before this moment (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// At most this many, 1 to 10,000; 1,000 if absent.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<i64>,
}

/// How many messages run again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Retried {
    /// How many are PENDING again.
    retried: usize,
    /// Whether there may be more: the limit was reached, or the rest could not be done now.
    more: bool,
}

/// Runs messages in ERROR again, oldest first, but those whose values other messages hold that have not ended.
#[utoipa::path(
    post, path = "/queues/{queue}/messages:retry", tag = "queue administration", operation_id = "retry_messages",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), Again),
    responses((status = 200, description = "How many", body = Retried), Problems),
)]
pub(super) async fn retry_many(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    query: Result<Query<Again>>,
) -> Result<Json<Retried>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    let Query(Again { created_after, created_before, limit }) = query?;
    let limit = limit.unwrap_or(1000);
    if !(1..=10_000).contains(&limit) {
        return Err(Error::BadRequest("`limit` must lie between 1 and 10000".to_owned()));
    }
    let (created_after, created_before) = (created_after.map(within_ids), created_before.map(within_ids));
    let filter = Filter { created_after, created_before };
    Ok(Json(retry_in_parts(&queues, &queue, &filter, limit).await?))
}

/// Runs messages again a part at a time, each in its own statement: errors and logs go along, and may be large. What
/// is done is done, whatever becomes of the next part. One that runs again and fails at once comes once.
async fn retry_in_parts(queues: &Queues, queue: &Queue, filter: &Filter, limit: i64) -> Result<Retried> {
    let (mut retried, mut after, mut part) = (0, None, PART);
    while retried < limit {
        let most = part.min(limit - retried);
        let again = match run_again(queues, queue, None, filter, after, most).await {
            Ok(again) => again,
            Err(error) if was_cut_off(&error) && part > 1 => {
                part /= 2;
                continue;
            }
            Err(error) if retried > 0 => {
                tracing::warn!(%error, retried, "a part of the messages to be run again is left");
                break;
            }
            Err(error) if is_held(&error) => return Err(uniqueness::held()),
            Err(error) => return Err(error.into()),
        };
        let done = || again.iter().filter(|again| again.held_by.is_none());
        if let Some(rank) = done().map(|again| again.rank).min() {
            queues.wake.ready(queue.id, rank);
        }
        after = again.iter().map(|again| again.id).max();
        let as_count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        retried += as_count(done().count());
        if as_count(again.len()) < most {
            return Ok(Retried { retried: usize::try_from(retried).unwrap_or(usize::MAX), more: false });
        }
    }
    Ok(Retried { retried: usize::try_from(retried).unwrap_or(usize::MAX), more: true })
}

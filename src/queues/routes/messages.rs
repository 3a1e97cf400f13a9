//! Push a message, read it, delete it.

use super::state::{Queues, message_id};
use super::view::{FullMessage, Message};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body::{self, Json as Document};
use crate::http::duration::DurationText;
use crate::http::extract::{Path, Query};
use crate::http::idempotency::IdempotencyKey;
use crate::http::idempotency::{self, Key};
use crate::http::openapi::{BodyProblems, Problems, both, either};
use crate::http::request_id;
use crate::queues::access::{check, no_message};
use crate::queues::catalog::Queue;
use crate::queues::identity::{Identity, IdentityQuery, Unique};
use crate::queues::name::QueueName;
use crate::queues::push::SINGLE;
use crate::queues::store;
use crate::queues::uniqueness::{Told, Verdict};
use crate::queues::when::{When, WhenQuery};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use store::pushes::{Claim, Push};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// Pushes a message: the body is the message itself. Answered once it is durable.
#[utoipa::path(
    post, path = "/queues/{queue}/messages", tag = "queue messages", operation_id = "push_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), WhenQuery, IdentityQuery,
        ("postrider-delay" = inline(Option<DurationText>), Header, description = "As `delay`"),
        ("postrider-run-at" = Option<String>, Header, description = "As `run_at`", example = "2030-01-31T12:00:00Z"),
        ("postrider-priority" = Option<i16>, Header, description = "As `priority`", minimum = -100, maximum = 100),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, unique per queue: the same key with the same body, however its JSON is spelt, makes no second message")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "Any JSON value that the queue's schema allows",
        example = json!({"hello": "world"})),
    responses(
        (status = 201, description = "Stored; `Location` ends in the id", body = Message),
        (status = 200, description = "This idempotency key was used before: the message that it made; or another message holds the value that is unique: that message, which may have taken over this body", body = Message),
        (status = 409, description = "This idempotency key was used with another body; or another message holds the value that is unique, which `held_by` names", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The message that this idempotency key made is deleted", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn push(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    query: axum::extract::RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let queue = queues.queue_for(&name, &caller).await?;
    let Document { raw } = body::read_json(&headers, body, &queues.limits).await?;
    let when =
        When::read(query.0.as_deref(), &headers, queues.access.db.ids.now(), &queue.definition.options)?;
    let identity = Identity::read(query.0.as_deref())?;
    let key = Key::read(&headers, SINGLE, &raw)?;
    #[cfg(feature = "planted-bugs")]
    let key = key.filter(|_| !crate::planted::has(crate::planted::Bug::NoKey));
    let unique = match judge(&queue, &identity, &raw).await {
        Ok(unique) => unique,
        Err(refused) => {
            return match &key {
                Some(key) if came_before(&queues, &queue, key).await? => {
                    again(&queues, &queue, key).await?.ok_or(refused)
                }
                _ => Err(refused),
            };
        }
    };
    let origin = request_id::kept(&headers);
    loop {
        let id = queues.access.db.ids.next();
        let pushed = Push {
            queue_id: queue.id,
            id,
            request: raw.clone(),
            rank: when.rank(),
            delay: when.delay,
            key: key.clone().map(|key| Claim::Leads { key, answer: None }),
            own_key: identity.own_key.clone(),
            unique: unique.clone(),
            origin: origin.clone(),
        };
        let done = queues.access.inbox.push(vec![pushed]).await?;
        if done.stored.contains(&id) {
            let message = pending(&queue, id, identity.own_key, raw);
            let location = [(header::LOCATION, location(&name, id)?)];
            return Ok((StatusCode::CREATED, location, Json(message)).into_response());
        }
        let answer = match (done.told.get(&id), &key) {
            (Some(told), key) => held(&queues, &queue, told, key.as_ref()).await?,
            (None, Some(key)) => again(&queues, &queue, key).await?,
            (None, None) => {
                return Err(Error::internal(anyhow::anyhow!("a push without a key was not stored")));
            }
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

/// Validates a message; returns its value, if it has one.
async fn judge(queue: &Queue, identity: &Identity, raw: &RawValue) -> Result<Option<Unique>> {
    let unique = identity.value(queue.definition.options.unique.as_ref(), raw)?;
    check(queue, raw).await?;
    Ok(unique)
}

/// The answer to a push whose value a message holds: that message as it is now, unless the push is refused. `None` when it
/// was deleted between the two statements, and holds nothing any more: then the push comes again. Not one that has an
/// idempotency key, which names the message that is gone.
pub(super) async fn held(
    queues: &Queues,
    queue: &Queue,
    told: &Told,
    key: Option<&Key>,
) -> Result<Option<Response>> {
    if told.what == Verdict::Rejected {
        return Err(told.refusal());
    }
    let row = store::messages::get(&queues.access.db.api, queue.id, told.message).await?;
    let row = match (row, key) {
        (Some(row), _) => row,
        (None, Some(_)) => return Err(idempotency::deleted("message")),
        (None, None) => return Ok(None),
    };
    let location = location(&queue.name, told.message)?;
    let message = Json(Message::of(&queue.name, row));
    Ok(Some((StatusCode::OK, [(header::LOCATION, location)], message).into_response()))
}

/// Whether a request that the queue's schema refuses now made something before, under its key: what was answered then does
/// not change with the schema.
pub(super) async fn came_before(queues: &Queues, queue: &Queue, key: &Key) -> Result<bool> {
    let former = store::pushes::former(&queues.access.db.api, queue.id, &key.key).await?;
    let says_the_same = |digest: &Vec<u8>| key.compare(digest).is_ok();
    Ok(former.is_some_and(|former| former.digest.as_ref().is_none_or(says_the_same)))
}

/// The answer to a push whose key was used before: the message that it made, as it is now. `None` when the key is not used
/// any more: what used it was refused, or its retention has ended. Then the push comes again.
pub(super) async fn again(queues: &Queues, queue: &Queue, key: &Key) -> Result<Option<Response>> {
    let former = store::pushes::former(&queues.access.db.api, queue.id, &key.key).await?;
    let Some(former) = former else { return Ok(None) };
    if let Some(digest) = &former.digest {
        key.compare(digest)?;
    }
    let row = store::messages::get(&queues.access.db.api, queue.id, former.message_id).await?;
    let row = row.ok_or_else(|| idempotency::deleted("message"))?;
    if former.digest.is_none() {
        key.compare_body(SINGLE, &row.request)?;
    }
    let location = [(header::LOCATION, location(&queue.name, former.message_id)?)];
    Ok(Some((StatusCode::OK, location, Json(Message::of(&queue.name, row))).into_response()))
}

/// The admin view.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum FullView {
    Full,
}

/// A message, or with `view=full` all there is to know of it.
enum ReadMessage {}

impl PartialSchema for ReadMessage {
    fn schema() -> RefOr<Schema> {
        either::<FullMessage, Message>()
    }
}

impl ToSchema for ReadMessage {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        both::<FullMessage, Message>(schemas);
    }
}

/// Which view of a message.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct View {
    /// `full` for the admin view: attempts, times, worker, history, logs.
    #[param(inline, value_type = Option<FullView>)]
    view: Option<String>,
}

/// Reads a message.
#[utoipa::path(
    get, path = "/queues/{queue}/messages/{id}", tag = "queue messages", operation_id = "get_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id"), View),
    responses((status = 200, description = "The message; with `view=full` a `FullQueueMessage`", body = ReadMessage), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
    query: Result<Query<View>>,
) -> Result<Response> {
    // Who may administer sees every message there is in the listing, so here too.
    let full = matches!(&query, Ok(Query(View { view: Some(view) })) if view == "full");
    let queue = if full {
        queues.queue_for_admin(&name, &caller).await?
    } else {
        queues.queue_for(&name, &caller).await?
    };
    let Query(View { view }) = query?;
    if !full && view.is_some_and(|view| !view.is_empty()) {
        return Err(Error::BadRequest("`view` can only be `full`".to_owned()));
    }
    let id = message_id(&id)?;
    if full {
        return Ok(Json(whole(&queues, &queue, id).await?).into_response());
    }
    let row = store::messages::get(&queues.access.db.api, queue.id, id).await?.ok_or_else(no_message)?;
    Ok(Json(Message::of(&name, row)).into_response())
}

/// The admin view, all of it from one moment.
async fn whole(queues: &Queues, queue: &Queue, id: Uuid) -> Result<FullMessage> {
    let number = queue.id;
    let (row, details, attempts) = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move {
            store::messages::one_moment(&mut *tx).await?;
            let row = store::messages::get(&mut *tx, number, id).await?.ok_or_else(no_message)?;
            let details = store::messages::details(&mut *tx, number, id).await?.ok_or_else(no_message)?;
            Ok((row, details, store::messages::attempts(tx, number, id).await?))
        })
    })
    .await?;
    Ok(FullMessage::of(&queue.name, row, details, attempts))
}

/// Deletes a message. One that waits never runs; one that runs is stopped if it can be, and its end is
/// dropped.
#[utoipa::path(
    delete, path = "/queues/{queue}/messages/{id}", tag = "queue messages", operation_id = "delete_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    responses((status = 204, description = "Deleted"), Problems),
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    let queue = queues.queue_for(&name, &caller).await?;
    queues.access.delete(&queue, message_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A message that was stored just now.
pub(super) fn pending(queue: &Queue, id: Uuid, key: Option<String>, request: Box<RawValue>) -> Message {
    let (queue, status) = (queue.name.clone(), "PENDING".to_owned());
    Message { id, queue, status, request, result: None, error: None, key }
}

/// Where a message is read.
pub(super) fn location(queue: &str, id: Uuid) -> Result<HeaderValue> {
    HeaderValue::try_from(format!("/queues/{queue}/messages/{id}")).map_err(Error::internal)
}

//! Push many messages in one request and one transaction.

use super::items::{self, BatchBody, Item};
use super::messages::came_before;
use super::state::Queues;
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result, Violation};
use crate::http::body;
use crate::http::duration::DurationText;
use crate::http::extract::Path;
use crate::http::idempotency::IdempotencyKey;
use crate::http::idempotency::Key;
use crate::http::json_text::raw;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::request_id;
use crate::queues::access::check;
use crate::queues::catalog::Queue;
use crate::queues::name::QueueName;
use crate::queues::push::answer::Pushed;
use crate::queues::store::pushes::{self, Claim, Push};
use crate::queues::uniqueness::Verdict;
use crate::queues::when::{When, WhenQuery};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// Pushes messages: an array of them, or an object `{"messages": [{"message", "key", "unique"}]}`. The valid ones are stored in one transaction; with `atomic=true` all or none.
#[utoipa::path(
    post, path = "/queues/{queue}/messages:batch", tag = "queue messages", operation_id = "push_messages",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), WhenQuery,
        ("postrider-delay" = inline(Option<DurationText>), Header, description = "As `delay`"),
        ("postrider-run-at" = Option<String>, Header, description = "As `run_at`", example = "2030-01-31T12:00:00Z"),
        ("postrider-priority" = Option<i16>, Header, description = "As `priority`", minimum = -100, maximum = 100),
        ("atomic" = Option<bool>, Query, description = "Store all or none"),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, unique per queue, for the whole batch: the same key with the same batch returns the first answer again. A batch of which nothing is stored does not use its key up")),
    request_body(content = BatchBody, content_type = "application/json", description = "1 to 1,000 messages",
        example = json!([{"hello": "world"}])),
    responses(
        (status = 201, description = "In the order sent: the id of each message stored, or that holds its value; the violations of each refused", body = Vec<Pushed>),
        (status = 200, description = "This idempotency key was used before: the first answer", body = Vec<Pushed>),
        (status = 409, description = "This idempotency key was used with another body; or with `atomic=true`, another message holds a value that is unique, which `held_by` names", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn push_batch(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let queue = queues.queue_for(&name, &caller).await?;
    let document = body::read_json(&headers, body, &queues.limits).await?;
    loop {
        if let Some(answer) = store(&queues, &queue, query.as_deref(), &headers, &document).await? {
            return Ok(answer);
        }
    }
}

/// Stores a batch, and answers; `None` when its idempotency key was used just now, and is not any more: then it comes again.
async fn store(
    queues: &Queues,
    queue: &Queue,
    query: Option<&str>,
    headers: &HeaderMap,
    document: &body::Json,
) -> Result<Option<Response>> {
    let atomic = atomic(query)?;
    let key = Key::read(headers, if atomic { "atomic batch" } else { "batch" }, &document.raw)?;
    let when = When::read(query, headers, queues.access.db.ids.now(), &queue.definition.options)?;
    let origin = request_id::kept(headers);
    let (mut answers, mut pushes, mut broken) = (Vec::new(), Vec::<Push>::new(), Vec::new());
    for Item { message, pointer, identity } in items::read(&document.raw)? {
        let unique = identity.value(queue.definition.options.unique.as_ref(), message)?;
        match check(queue, message).await {
            Ok(()) => {
                let id = queues.access.db.ids.next();
                let (rank, delay) = (when.rank(), when.delay);
                pushes.push(Push {
                    queue_id: queue.id,
                    id,
                    request: message.to_owned(),
                    rank,
                    delay,
                    key: None,
                    own_key: identity.own_key,
                    unique,
                    origin: origin.clone(),
                });
                answers.push(Pushed::Stored { id, unique: None });
            }
            Err(Error::Invalid(_, errors)) => {
                broken.extend(errors.iter().map(|violation| Violation {
                    pointer: format!("{pointer}{}", violation.pointer),
                    ..violation.clone()
                }));
                answers.push(Pushed::Refused { errors, held_by: None });
            }
            Err(other) => return Err(other),
        }
    }
    if let Some(key) = key.as_ref().filter(|_| !broken.is_empty())
        && came_before(queues, queue, key).await?
        && let Some(answer) = again(queues, queue, key).await?
    {
        return Ok(Some(answer));
    }
    if atomic && !broken.is_empty() {
        broken.truncate(crate::error::MAX_VIOLATIONS);
        return Err(Error::Invalid(
            "a message breaks the queue's schema: none was stored".to_owned(),
            broken,
        ));
    }
    if let Some(key) = key.clone() {
        claim(&mut pushes, key, &answers);
    }
    if pushes.is_empty() {
        return Ok(Some((StatusCode::CREATED, Json(answers)).into_response()));
    }
    let (done, batch) = queues.access.inbox.push_batch(pushes, answers, atomic).await?;
    if let Some(refused) = done.told.values().find(|told| atomic && told.what == Verdict::Rejected) {
        return Err(refused.refusal());
    }
    match key {
        Some(key) if !done.is_new() => again(queues, queue, &key).await,
        _ => Ok(Some((StatusCode::CREATED, Json(batch.answers(&done.told))).into_response())),
    }
}

/// Has the first message claim the key for all of them.
fn claim(pushes: &mut [Push], key: Key, answers: &[Pushed]) {
    let Some((first, others)) = pushes.split_first_mut() else { return };
    first.key = Some(Claim::Leads { key, answer: Some(raw(answers)) });
    for other in others {
        other.key = Some(Claim::Follows(first.id));
    }
}

/// The answer to a batch whose key was used before: the first; `None` when it is not used any more.
async fn again(queues: &Queues, queue: &Queue, key: &Key) -> Result<Option<Response>> {
    let former = pushes::former(&queues.access.db.api, queue.id, &key.key).await?;
    let Some(former) = former else { return Ok(None) };
    // Of what SQL enqueued there is no digest, and it was no batch.
    key.compare(former.digest.as_deref().unwrap_or_default())?;
    Ok(Some((StatusCode::OK, Json(former.answer)).into_response()))
}

fn atomic(query: Option<&str>) -> Result<bool> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match pairs.find(|(key, _)| key == "atomic").as_ref().map(|(_, value)| value.as_ref()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::BadRequest("`atomic` must be true or false".to_owned())),
    }
}

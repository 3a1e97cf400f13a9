//! Push many messages in one request and one transaction.

use super::Queues;
use crate::auth::Authenticated;
use crate::error::{Error, Result, Violation};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::queues::access::check;
use crate::queues::store::pushes::Push;
use crate::queues::when::{When, WhenQuery};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The most messages in one request.
const MOST: usize = 1000;

/// What became of one message of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum Pushed {
    /// Stored.
    Stored {
        /// The message's id.
        id: Uuid,
    },
    /// Refused.
    Refused {
        /// Every violation of the schema.
        errors: Vec<Violation>,
    },
}

/// Pushes an array of messages. The valid ones are stored in one transaction; with `atomic=true` all or none.
#[utoipa::path(
    post, path = "/queues/{queue}/messages:batch", tag = "queue messages", operation_id = "push_messages",
    params(("queue" = String, Path, description = "The queue's name"), WhenQuery,
        ("atomic" = Option<bool>, Query, description = "Store all or none")),
    request_body(content = Vec<serde_json::Value>, content_type = "application/json", description = "1 to 1,000 messages"),
    responses(
        (status = 201, description = "In the order sent: the id of each message stored, the violations of each refused", body = Vec<Pushed>),
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
) -> Result<(StatusCode, Json<Vec<Pushed>>)> {
    let queue = queues.queue_for(&name, &caller).await?;
    let document = body::read_json(&headers, body, &queues.limits).await?;
    let atomic = atomic(query.as_deref())?;
    if headers.contains_key("idempotency-key") {
        return Err(Error::BadRequest("`Idempotency-Key` is for single messages".to_owned()));
    }
    let when = When::read(query.as_deref(), &headers, queues.access.db.ids.now(), &queue.definition.options)?;
    let serde_json::Value::Array(values) = document.value else {
        return Err(Error::BadRequest("the body must be an array of messages".to_owned()));
    };
    if values.is_empty() || values.len() > MOST {
        return Err(Error::BadRequest(format!("a batch has 1 to {MOST} messages")));
    }
    let raws: Vec<Box<RawValue>> = serde_json::from_str(document.raw.get()).map_err(Error::internal)?;
    let (mut answers, mut pushes, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (raw, value)) in raws.into_iter().zip(values).enumerate() {
        match check(&queue, value).await {
            Ok(()) => {
                let id = queues.access.db.ids.next();
                let (rank, delay) = (when.rank(), when.delay);
                pushes.push(Push { queue_id: queue.id, id, request: raw, rank, delay, key: None });
                answers.push(Pushed::Stored { id });
            }
            Err(Error::Invalid(_, errors)) => {
                broken.extend(errors.iter().map(|violation| Violation {
                    pointer: format!("/{index}{}", violation.pointer),
                    ..violation.clone()
                }));
                answers.push(Pushed::Refused { errors });
            }
            Err(other) => return Err(other),
        }
    }
    if atomic && !broken.is_empty() {
        broken.truncate(crate::error::MAX_VIOLATIONS);
        return Err(Error::Invalid(
            "a message breaks the queue's schema: none was stored".to_owned(),
            broken,
        ));
    }
    if !pushes.is_empty() {
        queues.access.inbox.push(pushes).await?;
    }
    Ok((StatusCode::CREATED, Json(answers)))
}

fn atomic(query: Option<&str>) -> Result<bool> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match pairs.find(|(key, _)| key == "atomic").as_ref().map(|(_, value)| value.as_ref()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::BadRequest("`atomic` must be true or false".to_owned())),
    }
}

//! Definitions and handlers over HTTP. They are code: for administrators only.

use super::state::Queues;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::state_member::{status_of_put, with_state, without_state};
use crate::queues::definition::Handler;
use crate::queues::definition::documented::{QueueDefinition, QueueHandler, QueueState};
use crate::queues::install::{self, Source};
use crate::queues::name::QueueName;
use crate::queues::{catalog::Queue, roles, store};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

/// A queue, for administrators.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedQueue {
    /// Its name.
    #[schema(example = "myQueue")]
    name: String,
    #[serde(flatten)]
    state: QueueState,
    /// The definition as it was put; a signing secret is replaced by `[redacted]`.
    #[schema(value_type = QueueDefinition)]
    definition: Box<RawValue>,
}

fn state_of(queue: &Queue) -> QueueState {
    QueueState { paused: queue.paused, source: queue.source.clone() }
}

impl ListedQueue {
    fn of(queue: &Queue) -> Self {
        let (name, state) = (queue.name.clone(), state_of(queue));
        Self { name, state, definition: queue.document.clone() }
    }
}

/// Lists all queues.
#[utoipa::path(
    get, path = "/queues", tag = "queue definitions", operation_id = "list_queues",
    responses((status = 200, description = "By name", body = Vec<ListedQueue>), Problems),
)]
pub(super) async fn list_queues(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
) -> Result<Json<Vec<ListedQueue>>> {
    roles::require_admin(&caller)?;
    let all = queues.access.catalog.all();
    Ok(Json(all.iter().map(|queue| ListedQueue::of(queue)).collect()))
}

/// Defines a queue, or redefines it. What is claimed from now on runs under the new definition. Of `options`,
/// `concurrency` (1) and `timeout` (30 s) hold in each process; for the handler `worker` they bound all remote workers
/// together, and without them there is no bound.
#[utoipa::path(
    put, path = "/queues/{queue}", tag = "queue definitions", operation_id = "put_queue",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    request_body(content = QueueDefinition, content_type = "application/json", description = "The definition: name, client_id, roles, incoming, handler, options",
        example = json!({"name": "myQueue", "incoming": {"schema": {"type": "object"}}, "handler": {"kind": "worker"}})),
    responses(
        (status = 200, description = "Redefined: the definition", body = QueueDefinition),
        (status = 201, description = "Defined: the definition", body = QueueDefinition),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put_queue(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    roles::require_admin(&caller)?;
    let document = without_state(body::read_json(&headers, body, &queues.limits).await?);
    let schedules = install::check(&queues.runners, &name, &document.raw).await?;
    let (db, sealer) = (&queues.access.db, queues.sealer.clone());
    let (made, document) = install::store(db, sealer, &name, &document.raw, schedules, Source::Api).await?;
    queues.changed().await?;
    Ok((status_of_put(made), Json(document)))
}

/// Reads a queue: its definition as it was put, and beside it `state`, what the listing says of it. A PUT ignores that.
#[utoipa::path(
    get, path = "/queues/{queue}", tag = "queue definitions", operation_id = "get_queue",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    responses((status = 200, description = "The definition; a signing secret is replaced by `[redacted]`, which put back keeps it", body = QueueDefinition), Problems),
)]
pub(super) async fn get_queue(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
) -> Result<Json<Box<RawValue>>> {
    let queue = queues.queue_for_admin(&name, &caller).await?;
    Ok(Json(with_state(&queue.document, &state_of(&queue))))
}

/// Deletes a queue. Its messages can no longer be asked for, and those that wait never run.
#[utoipa::path(
    delete, path = "/queues/{queue}", tag = "queue definitions", operation_id = "delete_queue",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    responses((status = 204, description = "Deleted"), Problems),
)]
pub(super) async fn delete_queue(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    queues.queue_for_admin(&name, &caller).await?;
    let gone = db::transaction::<_, Error, _>(&queues.access.db.api, move |tx| {
        Box::pin(async move { Ok(store::definitions::delete(tx, &name).await?) })
    })
    .await?;
    if !gone {
        return Err(Error::NotFound("there is no such queue".to_owned()));
    }
    queues.changed().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a queue another handler. What runs finishes with the old one.
#[utoipa::path(
    put, path = "/queues/{queue}/handler", tag = "queue definitions", operation_id = "put_handler",
    params(("queue" = inline(QueueName), Path, description = "The queue's name")),
    request_body(content = QueueHandler, content_type = "application/json", description = "The handler: kind and what that kind needs",
        example = json!({"kind": "javascript", "source": "module.exports = async function (message) { return message; };"})),
    responses(
        (status = 200, description = "The definition with the new handler", body = QueueDefinition),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put_handler(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Box<RawValue>>> {
    queues.queue_for_admin(&name, &caller).await?;
    let handler = body::read_json(&headers, body, &queues.limits).await?;
    queues.runners.check(&name, &Handler::read(&handler.value())?).await?;
    let document =
        install::store_handler(&queues.access.db, queues.sealer.clone(), &name, handler.raw).await?;
    queues.changed().await?;
    Ok(Json(document))
}

//! Remote workers say that they live.

use super::remote::{existing, stale};
use super::state::Queues;
use crate::auth::Authenticated;
use crate::error::{Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::queues::name::QueueName;
use crate::worker::store as engine;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A call about a claimed message.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// The claim's lease.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
}

/// Until when a lease lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    /// The claim's lease.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
    /// When it ends unless another heartbeat comes; never later than the queue's `timeout` after the claim.
    expires_at: DateTime<Utc>,
}

/// Says that the worker lives: its lease goes on, until the queue's `timeout` has passed since the claim.
#[utoipa::path(
    post, path = "/queues/{queue}/messages/{id}/heartbeat", tag = "queue workers", operation_id = "heartbeat_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    request_body = Heartbeat,
    responses(
        (status = 200, description = "The lease goes on", body = Alive),
        (status = 409, description = "The lease is over, or has reached the queue's `timeout`: stop working on it", body = Problem, content_type = "application/problem+json"),
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

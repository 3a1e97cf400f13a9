//! Why a message is not running.

use super::state::{Queues, message_id};
use crate::auth::Authenticated;
use crate::error::Result;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::queues::access::no_message;
use crate::queues::name::QueueName;
use crate::queues::roles;
use crate::queues::why;
use crate::worker::why::Why;
use axum::Json;
use axum::extract::State;

/// Says why a message is not running: every reason, with what to do about it; none once it has ended. For who may read
/// the message, and for administrators; these alone are told why attempts failed.
#[utoipa::path(
    get, path = "/queues/{queue}/messages/{id}/why", tag = "queue messages", operation_id = "why_message",
    params(("queue" = inline(QueueName), Path, description = "The queue's name"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    responses((status = 200, description = "Its status, and the reasons", body = Why), Problems),
)]
pub(super) async fn why(
    Authenticated(caller): Authenticated,
    State(queues): State<Queues>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Why>> {
    queues.queue_for_reader(&name, &caller).await?;
    let id = message_id(&id)?;
    // Of the definition as it is now, whichever process changed it.
    queues.access.refresh().await?;
    let queue = queues.access.queue(&name).await?;
    let whole = roles::require_admin(&caller).is_ok();
    Ok(Json(why::why(&queues.access.db.api, queue, id, whole).await?.ok_or_else(no_message)?))
}

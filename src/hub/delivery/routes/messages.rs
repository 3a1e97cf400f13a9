//! Read a message with all that came of it.

use super::deliveries::Delivery;
use super::log_entries::LogEntry;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::names::StoreName;
use crate::hub::delivery::store::{listing, log_listing};
use crate::hub::listing::page::one_moment;
use crate::hub::roles::Right;
use crate::hub::routing::routes::MessageState;
use crate::hub::routing::store::messages;
use crate::hub::state::{Hub, id_of};
use axum::Json;
use axum::extract::State as Extract;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// Children, and log entries, that are shown with a message.
const SHOWN: i64 = 1000;

/// A message with all that came of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = HubMessage)]
pub(super) struct FullMessage {
    /// The message.
    message_id: Uuid,
    /// Its key.
    #[schema(example = "order:new")]
    message: String,
    /// `pending` until it is routed; then `routed`, `unrouted` or `parked`.
    #[schema(value_type = MessageState)]
    state: &'static str,
    /// Why it is parked.
    #[schema(example = "loop")]
    reason: Option<String>,
    /// As it came.
    #[schema(value_type = Object, example = json!({"order": {"number": "R123"}}))]
    payload: Box<RawValue>,
    /// The message whose delivery was answered with this one.
    parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    hop: i16,
    /// When it came in.
    created_at: DateTime<Utc>,
    /// The `x-request-id` of the request that it comes of, over whichever answers, which the log names with a delivery that
    /// is parked; null when it comes of none.
    #[schema(example = "0198c0de-0000-7000-8000-000000000001")]
    request_id: Option<String>,
    /// The trace that it is a part of, which the log names with a delivery that is parked; null when what made it brought
    /// none: then the spans of its deliveries, if there are any, are a trace whose id is the message's own, without dashes.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: Option<String>,
    /// The messages with which its deliveries were answered, oldest first, at most 1000.
    children: Vec<Uuid>,
    /// One for each mapping that wanted it.
    deliveries: Vec<Delivery>,
    /// What was said about it, newest first, at most 1000.
    log_entries: Vec<LogEntry>,
}

/// Reads a message, with its deliveries, its lineage and its log entries, all of one moment.
#[utoipa::path(
    get, path = "/stores/{store}/messages/{id}", tag = "hub messages", operation_id = "get_hub_message",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The message's id")),
    responses((status = 200, description = "The message", body = FullMessage), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    Extract(hub): Extract<Hub>,
    Path((store, id)): Path<(String, String)>,
) -> Result<Json<FullMessage>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let missing = || Error::NotFound("there is no such message in this store".to_owned());
    let id = id_of(&id, missing)?;
    let message = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            one_moment(&mut *tx).await?;
            let row = messages::get(&mut *tx, store, id).await?.ok_or_else(missing)?;
            let children = messages::children(&mut *tx, store, id, SHOWN).await?;
            let deliveries = listing::of_message(&mut *tx, store, id).await?;
            let about = log_listing::Filter { message_id: Some(id), ..Default::default() };
            let entries = log_listing::page(tx, store, &about, None, SHOWN).await?.rows;
            let of = |delivery| Delivery::of(delivery, Some(&row.message));
            Ok(FullMessage {
                message_id: row.id,
                deliveries: deliveries.into_iter().map(of).collect(),
                state: row.state.as_str(),
                reason: row.reason,
                payload: row.payload.0,
                parent_id: row.parent_id,
                hop: row.hop,
                created_at: row.created_at,
                request_id: row.request_id,
                trace_id: row.trace_id,
                children,
                log_entries: entries.into_iter().map(LogEntry::of).collect(),
                message: row.message,
            })
        })
    });
    Ok(Json(message.await?))
}

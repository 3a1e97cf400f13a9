//! Push a message into a store, list messages, read one with all that came of it.

use super::deliveries::Delivery;
use super::log_entries::LogEntry;
use super::page::{Page, word};
use super::{Hub, id_of};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, MAX_VIOLATIONS, Problem, Result, Violation};
use crate::http::body;
use crate::http::extract::{Path, Query};
use crate::http::idempotency::Key;
use crate::http::openapi::{BodyProblems, Problems};
use crate::hub::definition::check_store;
use crate::hub::message::{Pattern, State, is_key};
use crate::hub::push::{self, Push};
use crate::hub::roles::{self, Right};
use crate::hub::store::shown::message_page::{self, Filter};
use crate::hub::store::shown::{deliveries, log_entries, messages};
use axum::Json;
use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Children, and log entries, that are shown with a message.
const SHOWN: i64 = 1000;

/// A message to push.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pushing {
    /// Its key: words of small letters, digits, `_` and `-`, with colons between; at most 255 characters.
    #[schema(example = "order:new")]
    message: String,
    /// An object; an empty one if absent.
    #[serde(default = "empty")]
    #[schema(value_type = Object, example = json!({"order": {"number": "R123"}}))]
    payload: Box<RawValue>,
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

/// A message that was stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Stored {
    /// Its id, a UUID of version 7.
    message_id: Uuid,
    /// Its key.
    #[schema(example = "order:new")]
    message: String,
    /// `routed` to at least one mapping, `unrouted`, or `parked`.
    #[schema(example = "routed")]
    state: &'static str,
}

/// Pushes a message into a store.
///
/// Answered once the message and its deliveries are durable. Sending them is not waited for.
#[utoipa::path(
    post, path = "/stores/{store}/messages", tag = "hub messages", operation_id = "push_hub_message",
    params(("store" = String, Path, description = "The store; the first message makes it"),
        ("Idempotency-Key" = Option<String>, Header, description = "At most 255 characters, unique per store: the same key with the same body, however its JSON is spelt, makes no second message")),
    request_body = Pushing,
    responses(
        (status = 201, description = "Stored; `Location` ends in the id", body = Stored),
        (status = 200, description = "This idempotency key was used before: the message that it made", body = Stored),
        (status = 409, description = "This idempotency key was used with another body", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn push(
    Authenticated(caller): Authenticated,
    Extract(hub): Extract<Hub>,
    Path(store): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    roles::require(&caller, &store, Right::Write)?;
    let document = body::read_json(&headers, body, &hub.limits).await?;
    check_store(&store)?;
    let key = Key::read(&headers, "push", &document.raw)?;
    let Pushing { message, payload } = document.to_typed()?;
    check(&message, &payload)?;
    let pushing = Push { store: store.clone(), message: message.clone(), payload, key };
    let pushed = push::push(&hub.db, &hub.catalog, pushing).await?;
    let status = if pushed.accepted.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    if let Some(accepted) = pushed.accepted {
        accepted.ring(&hub.wake);
    }
    let location = [(header::LOCATION, format!("/stores/{store}/messages/{}", pushed.id))];
    let stored = Stored { message_id: pushed.id, message, state: pushed.state.as_str() };
    Ok((status, location, Json(stored)).into_response())
}

fn check(message: &str, payload: &RawValue) -> Result<()> {
    let mut violations = Vec::new();
    if !is_key(message) {
        violations.push(Violation::new("/message", "pattern", "must be a message key such as order:new"));
    }
    if !payload.get().starts_with('{') {
        violations.push(Violation::new("/payload", "type", "must be an object"));
    }
    violations.truncate(MAX_VIOLATIONS);
    if violations.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid("the message breaks a rule".to_owned(), violations))
}

/// A message with all that came of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FullMessage {
    /// The message.
    message_id: Uuid,
    /// Its key.
    message: String,
    /// `pending` until it is routed; then `routed`, `unrouted` or `parked`.
    #[schema(example = "routed")]
    state: &'static str,
    /// Why it is parked.
    reason: Option<String>,
    /// As it came.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
    /// The message whose delivery was answered with this one.
    parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    hop: i16,
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
    params(("store" = String, Path, description = "The store"), ("id" = String, Path, description = "The message's id")),
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
            messages::one_moment(&mut *tx).await?;
            let row = messages::get(&mut *tx, store, id).await?.ok_or_else(missing)?;
            let children = messages::children(&mut *tx, store, id, SHOWN).await?;
            let deliveries = deliveries::of_message(&mut *tx, store, id).await?;
            let about = log_entries::Filter { message_id: Some(id), ..Default::default() };
            let entries = log_entries::page(tx, store, &about, None, SHOWN).await?.rows;
            let of = |delivery| Delivery::of(delivery, Some(&row.message));
            Ok(FullMessage {
                message_id: row.id,
                deliveries: deliveries.into_iter().map(of).collect(),
                state: row.state.as_str(),
                reason: row.reason,
                payload: row.payload.0,
                parent_id: row.parent_id,
                hop: row.hop,
                children,
                log_entries: entries.into_iter().map(LogEntry::of).collect(),
                message: row.message,
            })
        })
    });
    Ok(Json(message.await?))
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// A key such as `order:new`, or `order:*` for all that begin so.
    message: Option<String>,
    /// pending, routed, unrouted or parked.
    state: Option<String>,
    /// Stored at or after this moment (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Stored before this moment (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 500 messages; 50 if absent.
    limit: Option<i64>,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct MessagePage {
    /// The messages.
    messages: Vec<Listed>,
    /// The cursor of the next page; null on the last one. A page that was searched for in many messages may have
    /// fewer than were asked for, even none, and yet a next one.
    next: Option<Uuid>,
}

/// A message in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Listed {
    /// The message.
    message_id: Uuid,
    /// Its key.
    message: String,
    /// pending, routed, unrouted or parked.
    state: &'static str,
    /// Why it is parked.
    reason: Option<String>,
    /// The message whose delivery was answered with this one.
    parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    hop: i16,
    /// When it came in.
    created_at: DateTime<Utc>,
}

/// Lists messages, newest first, without their payloads.
#[utoipa::path(
    get, path = "/stores/{store}/messages", tag = "hub messages", operation_id = "list_hub_messages",
    params(("store" = String, Path, description = "The store"), Listing),
    responses((status = 200, description = "A page", body = MessagePage), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    Extract(hub): Extract<Hub>,
    Path(store): Path<String>,
    query: Result<Query<Listing>>,
) -> Result<Json<MessagePage>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let Query(listing) = query?;
    let page = Page::<Uuid>::read(listing.after.as_deref(), listing.limit)?;
    let mut filter = Filter { state: state(listing.state)?, ..Filter::default() };
    match listing.message.as_deref().map(Pattern::read) {
        None => {}
        Some(Some(Pattern::Exact(key))) => filter.key = Some(key),
        Some(Some(Pattern::Prefix(prefix))) => filter.prefix = Some(prefix),
        Some(None) => {
            return Err(Error::BadRequest("`message` is a key such as order:new, or order:*".to_owned()));
        }
    }
    let span = page.span(listing.created_after, listing.created_before);
    let found = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            messages::one_moment(&mut *tx).await?;
            Ok(message_page::page(tx, store, &filter, span).await?)
        })
    })
    .await?;
    let mut rows = found.rows;
    let next = page.cut(&mut rows, |row| row.id).or(found.stopped_at);
    let listed = |row: message_page::Listed| Listed {
        message_id: row.id,
        message: row.message,
        state: row.state.as_str(),
        reason: row.reason,
        parent_id: row.parent_id,
        hop: row.hop,
        created_at: row.created_at,
    };
    Ok(Json(MessagePage { messages: rows.into_iter().map(listed).collect(), next }))
}

fn state(text: Option<String>) -> Result<Option<State>> {
    let text = word("state", text, &State::ALL.map(State::as_str))?;
    Ok(text.and_then(|text| State::ALL.into_iter().find(|state| state.as_str() == text)))
}

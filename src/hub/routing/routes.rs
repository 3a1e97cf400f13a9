//! Push a message into a store, list messages.

use super::message::State;
use super::push::{self, Push};
use super::store::page::{self, Filter};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, MAX_VIOLATIONS, Problem, Result, Violation};
use crate::http::body;
use crate::http::extract::{Path, Query};
use crate::http::idempotency::IdempotencyKey;
use crate::http::idempotency::Key;
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::request_id;
use crate::hub::definitions::documents::check_store;
use crate::hub::definitions::documents::names::{MessageKey, MessagePattern, StoreName};
use crate::hub::key::{Pattern, RESERVED, WANTED, is_key, is_reserved};
use crate::hub::listing::page::one_moment;
use crate::hub::listing::query::{Page, word};
use crate::hub::roles::{self, Right};
use crate::hub::state::Hub;
use axum::Json;
use axum::body::Body;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// A message to push.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pushing {
    /// Its key: words of letters, digits, `_` and `-`, with colons or dots between; at most 255 characters. Those that
    /// begin with `hub:` are the hub's own.
    #[schema(value_type = MessageKey)]
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
    #[schema(value_type = MessageState)]
    state: &'static str,
}

/// Pushes a message into a store.
///
/// Answered once the message and its deliveries are durable. Sending them is not waited for.
#[utoipa::path(
    post, path = "/stores/{store}/messages", tag = "hub messages", operation_id = "push_hub_message",
    params(("store" = inline(StoreName), Path, description = "The store; the first message makes it"),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, unique per store: the same key with the same body, however its JSON is spelt, makes no second message")),
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
    let origin = request_id::kept(&headers);
    let pushing = Push { store: store.clone(), message: message.clone(), payload, key, origin };
    let pushed = push::push(&hub.db, &hub.catalog, &hub.held, pushing).await?;
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
        violations.push(Violation::new("/message", "pattern", WANTED));
    }
    if is_reserved(message) {
        violations.push(Violation::new("/message", "reserved", RESERVED));
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

/// How a message stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
pub(in crate::hub) enum MessageState {
    Pending,
    Routed,
    Unrouted,
    Parked,
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// A key such as `order:new`, or `order:*` and `invoice.*` for all that begin so.
    #[param(inline, value_type = Option<MessagePattern>)]
    message: Option<String>,
    /// pending, routed, unrouted or parked.
    #[param(inline, value_type = Option<MessageState>)]
    state: Option<String>,
    /// Stored at or after this moment (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Stored before this moment (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    #[param(value_type = Option<Uuid>)]
    after: Option<String>,
    /// 1 to 500 messages; 50 if absent.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A page of messages, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct MessagePage {
    /// The messages.
    messages: Vec<ListedMessage>,
    /// The cursor of the next page; null on the last one. A page that was searched for in many messages may have
    /// fewer than were asked for, even none, and yet a next one.
    next: Option<Uuid>,
}

/// A message in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedMessage {
    /// The message.
    message_id: Uuid,
    /// Its key.
    #[schema(example = "order:new")]
    message: String,
    /// pending, routed, unrouted or parked.
    #[schema(value_type = MessageState)]
    state: &'static str,
    /// Why it is parked.
    #[schema(example = "loop")]
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
    params(("store" = inline(StoreName), Path, description = "The store"), Listing),
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
            return Err(Error::BadRequest(
                "`message` is a key such as order:new, or order:* or invoice.*".to_owned(),
            ));
        }
    }
    let span = page.span(listing.created_after, listing.created_before);
    let found = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            one_moment(&mut *tx).await?;
            Ok(page::page(tx, store, &filter, span).await?)
        })
    })
    .await?;
    let mut rows = found.rows;
    let next = page.cut(&mut rows, |row| row.id).or(found.stopped_at);
    let listed = |row: page::Listed| ListedMessage {
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

/// The routes of messages.
pub fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(push, list))
}

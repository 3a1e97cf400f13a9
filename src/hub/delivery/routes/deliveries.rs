//! Read deliveries and their attempts.

use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::names::StoreName;
use crate::hub::delivery::store::listing::{self, Row};
use crate::hub::delivery::store::page::{self, Filter};
use crate::hub::listing::page::one_moment;
use crate::hub::listing::query::{Page, word};
use crate::hub::parked_by::ParkedBy;
use crate::hub::roles::Right;
use crate::hub::state::{Hub, id_of};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The words of a delivery's status.
const STATUSES: [&str; 5] = ["PENDING", "INPROGRESS", "COMPLETE", "ERROR", "SKIPPED"];

/// How a delivery stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "it only describes")]
enum DeliveryStatus {
    Pending,
    InProgress,
    Complete,
    Error,
    Skipped,
}

/// A delivery: one message for one mapping.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Delivery {
    /// The delivery.
    id: Uuid,
    /// Its message.
    message_id: Uuid,
    /// The message's key; null once the message is gone.
    #[schema(example = "order:new")]
    message: Option<String>,
    /// The mapping's name.
    #[schema(example = "ship")]
    mapping: String,
    /// The name of its endpoint; null once it was deleted.
    #[schema(example = "warehouse")]
    endpoint: Option<String>,
    /// PENDING, INPROGRESS, COMPLETE, ERROR (parked) or SKIPPED (a duplicate).
    #[schema(value_type = DeliveryStatus, example = "COMPLETE")]
    status: String,
    /// Whether it was answered with `notification:error`: done, and never tried again.
    business_error: bool,
    /// How many attempts have ended.
    attempts: i32,
    /// When it is tried again, while it waits for that.
    next_attempt_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// When somebody decided that it is not wanted any more.
    archived_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, or why it is parked or skipped.
    #[schema(example = "refused: the server accepts no connection")]
    last_error: Option<String>,
    /// Which rule parked it, while it is ERROR.
    #[schema(value_type = Option<ParkedBy>, example = "max_attempts")]
    parked_by: Option<String>,
}

impl Delivery {
    /// The delivery of a row, of a message with this key.
    pub(super) fn of(row: Row, message: Option<&str>) -> Self {
        Self {
            id: row.id,
            message_id: row.message_id,
            message: row.message.or_else(|| message.map(str::to_owned)),
            mapping: row.mapping,
            endpoint: row.endpoint,
            status: row.status,
            business_error: row.business_error,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            finished_at: row.finished_at,
            archived_at: row.archived_at,
            last_error: row.last_error,
            parked_by: row.parked_by,
        }
    }
}

/// 404: the store has no such delivery.
pub(super) fn no_delivery() -> Error {
    Error::NotFound("there is no such delivery in this store".to_owned())
}

/// Reads a delivery as it stands now.
pub(super) async fn read(hub: &Hub, store: i32, id: Uuid) -> Result<Json<Delivery>> {
    let row = listing::get(&hub.db.api, store, id).await?.ok_or_else(no_delivery)?;
    Ok(Json(Delivery::of(row, None)))
}

/// Reads a delivery.
#[utoipa::path(
    get, path = "/stores/{store}/deliveries/{id}", tag = "hub deliveries", operation_id = "get_delivery",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The delivery's id")),
    responses((status = 200, description = "The delivery", body = Delivery), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, id)): Path<(String, String)>,
) -> Result<Json<Delivery>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    read(&hub, store, id_of(&id, no_delivery)?).await
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// PENDING, INPROGRESS, COMPLETE, ERROR or SKIPPED.
    #[param(inline, value_type = Option<DeliveryStatus>)]
    status: Option<String>,
    /// The name of a mapping.
    #[param(example = "ship")]
    mapping: Option<String>,
    /// The name of an endpoint.
    #[param(example = "warehouse")]
    endpoint: Option<String>,
    /// Made at or after this moment (RFC 3339).
    created_after: Option<DateTime<Utc>>,
    /// Made before this moment (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// `next` of the page before.
    #[param(value_type = Option<Uuid>)]
    after: Option<String>,
    /// 1 to 500 deliveries; 50 if absent.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DeliveryPage {
    /// The deliveries.
    deliveries: Vec<Delivery>,
    /// The cursor of the next page; null on the last one. A page that was searched for in many deliveries may have
    /// fewer than were asked for, even none, and yet a next one.
    next: Option<Uuid>,
}

/// Lists deliveries, newest first.
#[utoipa::path(
    get, path = "/stores/{store}/deliveries", tag = "hub deliveries", operation_id = "list_deliveries",
    params(("store" = inline(StoreName), Path, description = "The store"), Listing),
    responses((status = 200, description = "A page", body = DeliveryPage), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
    query: Result<Query<Listing>>,
) -> Result<Json<DeliveryPage>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let Query(listing) = query?;
    let page = Page::<Uuid>::read(listing.after.as_deref(), listing.limit)?;
    let filter = Filter {
        status: word("status", listing.status, &STATUSES)?,
        mapping: listing.mapping,
        endpoint: listing.endpoint,
    };
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
    let deliveries = rows.into_iter().map(|row| Delivery::of(row, None)).collect();
    Ok(Json(DeliveryPage { deliveries, next }))
}

/// One HTTP request to an endpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Attempt {
    /// Its number, from 1.
    number: i32,
    /// delivered, failed, or deferred by the endpoint; returned by a worker that was told to stop; lost, when its server
    /// died and nobody knows.
    #[schema(example = "failed")]
    verdict: String,
    /// The HTTP status of the answer; null when there was none.
    #[schema(example = 500)]
    status_code: Option<i16>,
    /// When it was claimed.
    started_at: DateTime<Utc>,
    /// When its end was written.
    finished_at: DateTime<Utc>,
    /// From the request to the end of the answer, in milliseconds.
    duration_ms: f64,
    /// Who was asked; null once it was deleted.
    #[schema(example = "warehouse")]
    endpoint: Option<String>,
    /// Why it failed, in one word: `dns`, `refused`, `connect_timeout`, `reset`, `tls_unknown_ca`, `tls_name`, `tls_expired`,
    /// `tls_client_certificate`, `tls_version`, `not_http`, `http2_only`, `truncated`, `headers_too_large`,
    /// `body_too_large`, `timeout`, `address_not_allowed`, `redirect`, `status`, `not_json`, `encoded`, `no_message_id`,
    /// `other_message_id`; null when it did not fail, or not by the endpoint's doing.
    #[schema(example = "refused")]
    cause: Option<String>,
    /// Why it failed, in words that begin with the one.
    #[schema(example = "refused: the server accepts no connection")]
    error: Option<String>,
    /// The beginning of the answer, with every secret blotted out.
    #[schema(example = "{\"message_id\":\"…\"}")]
    body: Option<String>,
}

/// Lists the attempts of a delivery, oldest first.
#[utoipa::path(
    get, path = "/stores/{store}/deliveries/{id}/attempts", tag = "hub deliveries", operation_id = "list_attempts",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The delivery's id")),
    responses((status = 200, description = "The attempts", body = Vec<Attempt>), Problems),
)]
pub(super) async fn attempts(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((store, id)): Path<(String, String)>,
) -> Result<Json<Vec<Attempt>>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let id = id_of(&id, no_delivery)?;
    listing::get(&hub.db.api, store, id).await?.ok_or_else(no_delivery)?;
    let rows = listing::attempts(&hub.db.api, store, id).await?;
    let attempt = |row: listing::Attempt| Attempt {
        number: row.number,
        verdict: row.verdict,
        status_code: row.status_code,
        started_at: row.started_at,
        finished_at: row.finished_at,
        duration_ms: row.duration_ms,
        endpoint: row.endpoint,
        cause: row.cause,
        error: row.error,
        body: row.body,
    };
    Ok(Json(rows.into_iter().map(attempt).collect()))
}

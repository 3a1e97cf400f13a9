//! The log entries of a store: the events tab of the guide.

use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::names::StoreName;
use crate::hub::delivery::store::log_listing::{self, Filter, Row};
use crate::hub::listing::page::one_moment;
use crate::hub::listing::query::{Page, word};
use crate::hub::roles::Right;
use crate::hub::state::Hub;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How grave an entry is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
enum LogLevel {
    Info,
    Warn,
    Error,
}

/// A log entry.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LogEntry {
    /// The entry.
    id: i64,
    /// info, warn or error.
    #[schema(value_type = LogLevel, example = "error")]
    level: String,
    /// In a few words.
    #[schema(example = "the order is not known")]
    subject: String,
    /// In more.
    #[schema(example = "R123 is not in our books")]
    description: String,
    /// How often the same was said about the same delivery.
    occurrences: i32,
    /// The message it is about.
    message_id: Option<Uuid>,
    /// What else it is about: delivery, endpoint, or a word of the endpoint's own, such as order.
    #[schema(example = "order")]
    reference_type: Option<String>,
    /// Which one.
    #[schema(example = "R123")]
    reference_id: Option<String>,
    /// When it was first said.
    first_seen: DateTime<Utc>,
    /// When it was last said.
    last_seen: DateTime<Utc>,
}

impl LogEntry {
    /// The entry of a row.
    pub(super) fn of(row: Row) -> Self {
        Self {
            id: row.id,
            level: row.level,
            subject: row.subject,
            description: row.description,
            occurrences: row.occurrences,
            message_id: row.message_id,
            reference_type: row.reference_type,
            reference_id: row.reference_id,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        }
    }
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// info, warn or error.
    #[param(inline, value_type = Option<LogLevel>)]
    level: Option<String>,
    /// What it is about: the id of a delivery, an order's number.
    #[param(example = "R123")]
    reference: Option<String>,
    /// What kind of thing that is: delivery, endpoint, order.
    #[param(example = "order")]
    reference_type: Option<String>,
    /// The message it is about.
    #[param(value_type = Option<Uuid>)]
    message_id: Option<String>,
    /// `next` of the page before.
    #[param(value_type = Option<i64>)]
    after: Option<String>,
    /// 1 to 500 entries; 50 if absent.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A page of log entries, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LogPage {
    /// The entries.
    log_entries: Vec<LogEntry>,
    /// The cursor of the next page; null on the last one. A page that was searched for in many entries may have
    /// fewer than were asked for, even none, and yet a next one.
    next: Option<i64>,
}

/// Lists what endpoints and the hub had to say, newest first.
#[utoipa::path(
    get, path = "/stores/{store}/log-entries", tag = "hub messages", operation_id = "list_log_entries",
    params(("store" = inline(StoreName), Path, description = "The store"), Listing),
    responses((status = 200, description = "A page", body = LogPage), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path(store): Path<String>,
    query: Result<Query<Listing>>,
) -> Result<Json<LogPage>> {
    let store = hub.store(&store, &caller, Right::Read).await?;
    let Query(listing) = query?;
    let page = Page::<i64>::read(listing.after.as_deref(), listing.limit)?;
    let no_id = |_| Error::BadRequest("`message_id` is the id of a message".to_owned());
    let filter = Filter {
        level: word("level", listing.level, &["info", "warn", "error"])?,
        reference: listing.reference,
        reference_type: listing.reference_type,
        message_id: listing.message_id.as_deref().map(Uuid::try_parse).transpose().map_err(no_id)?,
    };
    let (before, limit) = (page.after, page.fetch);
    let found = db::transaction::<_, Error, _>(&hub.db.api, move |tx| {
        Box::pin(async move {
            one_moment(&mut *tx).await?;
            Ok(log_listing::page(tx, store, &filter, before, limit).await?)
        })
    })
    .await?;
    let mut rows = found.rows;
    let next = page.cut(&mut rows, |row| row.id).or(found.stopped_at);
    Ok(Json(LogPage { log_entries: rows.into_iter().map(LogEntry::of).collect(), next }))
}

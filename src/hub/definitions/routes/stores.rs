//! Which stores there are.

use crate::auth::Authenticated;
use crate::error::Result;
use crate::http::extract::Query;
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::names::StoreName;
use crate::hub::definitions::store::stores::{self, Store};
use crate::hub::listing::query::Page;
use crate::hub::roles;
use crate::hub::state::Hub;
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// `next` of the page before.
    #[param(inline, value_type = Option<StoreName>)]
    after: Option<String>,
    /// 1 to 500 stores; 50 if absent.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A page of stores, by name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StorePage {
    /// The stores.
    stores: Vec<ListedStore>,
    /// The cursor of the next page; null on the last one.
    #[schema(example = "shop")]
    next: Option<String>,
}

/// A store, in a listing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ListedStore {
    /// Its name.
    #[schema(example = "shop")]
    name: String,
    /// When the first thing was put or pushed into it, which made it.
    created_at: DateTime<Utc>,
}

/// Lists the stores that the caller may look at, by name.
///
/// The first thing that is put or pushed into a store makes it: a misspelt name shows here.
#[utoipa::path(
    get, path = "/stores", tag = "hub definitions", operation_id = "list_stores",
    params(Listing),
    responses((status = 200, description = "A page", body = StorePage), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    query: Result<Query<Listing>>,
) -> Result<Json<StorePage>> {
    let visible = roles::visible(&caller)?;
    let Query(listing) = query?;
    let page = Page::<String>::read(listing.after.as_deref(), listing.limit)?;
    let mut rows = stores::page(&hub.db.api, visible.as_deref(), page.after.as_deref(), page.fetch).await?;
    let next = page.cut(&mut rows, |row| row.name.clone());
    let listed = |Store { name, created_at }: Store| ListedStore { name, created_at };
    Ok(Json(StorePage { stores: rows.into_iter().map(listed).collect(), next }))
}

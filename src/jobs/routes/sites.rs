//! The merchant sites that the operator's file names.

use super::state::Jobs;
use crate::auth::Authenticated;
use crate::error::{Error, Result};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::jobs::roles;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// A merchant site. Further members are as the file has them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct MerchantSite {
    /// Its number.
    #[schema(example = 3)]
    id: i64,
    /// Its host.
    #[schema(example = "shop.example.com")]
    host: Option<String>,
    /// Its name.
    #[schema(example = "The shop")]
    name: Option<String>,
    /// What else the file says.
    #[serde(flatten)]
    further: HashMap<String, Value>,
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Their host.
    #[param(example = "shop.example.com")]
    host: Option<String>,
    /// Their name.
    #[param(example = "The shop")]
    name: Option<String>,
    /// Their numbers, with commas.
    #[param(pattern = "^( *[0-9]{1,18} *(, *[0-9]{1,18} *)*)?$", example = "3,4")]
    ids: Option<String>,
}

/// Lists the merchant sites of `POSTRIDER_SDK_FILE`, in its order; none without it.
#[utoipa::path(
    get, path = "/merchant_sites", tag = "job channels", operation_id = "list_merchant_sites",
    params(Listing),
    responses((status = 200, description = "The sites", body = Vec<MerchantSite>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Query(Listing { host, name, ids }): Query<Listing>,
) -> Result<Json<Vec<Box<RawValue>>>> {
    roles::require_any(&caller)?;
    let ids = ids.filter(|ids| !ids.trim().is_empty()).map(|ids| {
        let ids = ids.split(',').map(|id| id.trim().parse()).collect::<Result<Vec<i64>, _>>();
        ids.map_err(|_| Error::BadRequest("`ids` must be numbers with commas".to_owned()))
    });
    let ids = ids.transpose()?;
    let all = jobs.sdk.iter().flat_map(|sdk| &sdk.sites);
    let found = all.filter(|site| {
        host.as_ref().is_none_or(|host| site.host.as_ref() == Some(host))
            && name.as_ref().is_none_or(|name| site.name.as_ref() == Some(name))
            && ids.as_ref().is_none_or(|ids| ids.contains(&site.id))
    });
    Ok(Json(found.map(|site| site.document.clone()).collect()))
}

/// Reads a merchant site.
#[utoipa::path(
    get, path = "/merchant_sites/{site_id}", tag = "job channels", operation_id = "get_merchant_site",
    params(("site_id" = i64, Path, description = "The site's number", minimum = 1, example = 3)),
    responses((status = 200, description = "The site", body = MerchantSite), Problems),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(id): Path<i64>,
) -> Result<Json<Box<RawValue>>> {
    roles::require_any(&caller)?;
    let found = jobs.sdk.iter().flat_map(|sdk| &sdk.sites).find(|site| site.id == id);
    let found = found.ok_or_else(|| Error::NotFound("there is no such merchant site".to_owned()))?;
    Ok(Json(found.document.clone()))
}

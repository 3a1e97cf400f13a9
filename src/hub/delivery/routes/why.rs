//! Why a delivery is not running.

use super::deliveries::no_delivery;
use crate::auth::Authenticated;
use crate::error::Result;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::hub::definitions::documents::names::StoreName;
use crate::hub::delivery::why::{self, Store};
use crate::hub::roles::Right;
use crate::hub::state::{Hub, id_of};
use crate::worker::why::Why;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Says why a delivery is not running: every reason, with what to do about it. None once it has ended; one that is parked
/// says by which rule. For who may read the delivery.
#[utoipa::path(
    get, path = "/stores/{store}/deliveries/{id}/why", tag = "hub deliveries", operation_id = "why_delivery",
    params(("store" = inline(StoreName), Path, description = "The store"), ("id" = uuid::Uuid, Path, description = "The delivery's id")),
    responses((status = 200, description = "Its status, and the reasons", body = Why), Problems),
)]
pub(super) async fn why(
    Authenticated(caller): Authenticated,
    State(hub): State<Hub>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Why>> {
    let store = hub.store(&name, &caller, Right::Read).await?;
    let id = id_of(&id, no_delivery)?;
    hub.refresh().await?;
    let of = Store { id: store, name };
    Ok(Json(why::why(&hub.db.api, Arc::clone(&hub.catalog), of, id).await?.ok_or_else(no_delivery)?))
}

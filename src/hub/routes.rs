//! The hub over HTTP, below `/stores/{store}`.
//!
//! The order of checks: 401 token, 403 role (whether or not there is such a store), 404 store, then the body
//! (413, 415, 400, 422), then what the state refuses (404, 409).

use crate::hub::state::Hub;
use crate::hub::{definitions, delivery, polling, routing};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

/// How the reference groups the routes.
#[derive(utoipa::OpenApi)]
#[openapi(tags(
    (name = "hub messages", description = "Push messages into a store, see what came of them and what endpoints had to say"),
    (name = "hub deliveries", description = "One message for one mapping: its attempts, and what to do about those that are parked"),
    (name = "hub definitions", description = "Stores, their endpoints, mappings to services, parameters that are sent along, storefront pollers"),
))]
struct Groups;

/// All routes of the hub.
pub fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::with_openapi(Groups::openapi())
        .merge(routing::routes::routes())
        .merge(definitions::routes::routes())
        .merge(delivery::routes::routes())
        .merge(polling::routes::routes())
}

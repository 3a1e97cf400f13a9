//! Definitions over HTTP.

mod endpoints;
mod events;
mod import;
mod mappings;
mod parameters;
mod stores;

use crate::hub::state::Hub;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of definitions.
pub fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(stores::list))
        .routes(routes!(endpoints::list))
        .routes(routes!(endpoints::put, endpoints::get, endpoints::delete))
        .routes(routes!(import::import))
        .routes(routes!(mappings::list))
        .routes(routes!(mappings::put, mappings::get, mappings::delete))
        .routes(routes!(parameters::list))
        .routes(routes!(parameters::put, parameters::get, parameters::delete))
}

//! Deliveries over HTTP.

mod check_endpoint;
mod check_mapping;
mod deliveries;
mod log_entries;
mod messages;
mod rerun;
mod why;

use crate::hub::state::Hub;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of deliveries.
pub fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(messages::get))
        .routes(routes!(check_endpoint::check))
        .routes(routes!(check_mapping::check))
        .routes(routes!(rerun::recover))
        .routes(routes!(deliveries::list))
        .routes(routes!(rerun::retry_many))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(why::why))
        .routes(routes!(rerun::retry))
        .routes(routes!(rerun::archive))
        .routes(routes!(log_entries::list))
}

//! What every route shares; knows no feature.
//!
//! A feature declares its routes as [`openapi`] shows, takes its parameters with [`extract`] and its body with
//! [`body`], and answers with a value or a [`crate::error::Error`]. [`router`] puts the features together with
//! what operators need, and [`server::serve`] serves the whole. Requests to others go through [`outbound`].

mod arriving;
mod canonical;
mod connection;
mod content_type;
mod cors;
mod edge;
mod framing;
mod front;
mod names;
mod parameters;
pub mod request_id;
mod shape;
mod unread;

pub mod address;
pub mod aside;
pub mod body;
pub mod duration;
pub mod extract;
pub mod health;
pub mod idempotency;
pub mod json_text;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod outbound;
pub mod place;
#[cfg(test)]
pub(crate) mod published;
pub mod reader;
pub mod retry_after;
pub mod server;
mod server_limits;
pub mod signature;
pub mod state_member;
pub mod trace;

use crate::config::Origins;
use crate::error::Error;
use crate::traces::Tracer;
use axum::Router;
use axum::middleware::from_fn_with_state;
use openapi::{OpenApiRouter, routes};
use std::sync::Arc;

/// What [`router`] needs to know.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// What `/readyz` tells.
    pub readiness: health::Readiness,
    /// How many requests are worked on at one time.
    pub in_flight: limits::InFlight,
    /// What is measured for `/metrics` when it is asked.
    pub on_scrape: metrics::OnScrape,
    /// The origins whose pages may read our answers.
    pub origins: Origins,
    /// What the names of headers begin with that pages may send beside those that the description names.
    pub header_prefix: &'static str,
    /// What makes the spans of requests.
    pub tracer: Tracer,
}

/// The whole HTTP interface: the routes of the features (with their state already in them), `/`, `/healthz`,
/// `/readyz`, `/metrics`, `/openapi.json`, `/docs`, and around all of them what every request meets.
pub fn router(features: OpenApiRouter, state: HttpState) -> Router {
    metrics::install();
    let document = openapi::Document::default();
    let health = OpenApiRouter::new().routes(routes!(health::readyz)).with_state(state.readiness);
    let metrics = OpenApiRouter::new().routes(routes!(metrics::show)).with_state(state.on_scrape);
    let description = OpenApiRouter::new().routes(routes!(openapi::document)).with_state(document.clone());
    let (router, api) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(front::front))
        .routes(routes!(health::healthz))
        .merge(health)
        .merge(metrics)
        .merge(description)
        .merge(features)
        .split_for_parts();
    document.fill(&api);
    let edge = edge::Edge {
        parameters: parameters::Known::of(&api),
        cors: cors::Cors::of(state.origins, state.header_prefix, &api),
        in_flight: state.in_flight,
        requests: metrics::Requests::default(),
        log: trace::AccessLog::default(),
        tracer: state.tracer,
    };
    router
        .merge(openapi::docs())
        .fallback(|| async { Error::NotFound("there is nothing here".to_owned()) })
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
        .layer(from_fn_with_state(Arc::new(edge), edge::around))
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;

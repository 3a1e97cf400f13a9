//! `/`: what runs here and where to go, as a page for a browser and as links for a program.

use super::openapi::OpenProblems;
use axum::Json;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;

/// What runs here, and where to go.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Front {
    /// The program: `postrider`.
    #[schema(example = "postrider")]
    name: &'static str,
    /// Its version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Where to go.
    links: Links,
}

/// The addresses that are there whatever the server is used for, relative to this one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Links {
    /// The description of every operation, for programs (OpenAPI 3.1).
    #[schema(example = "/openapi.json")]
    openapi: &'static str,
    /// The same, for reading.
    #[schema(example = "/docs/")]
    docs: &'static str,
    /// Whether the process lives.
    #[schema(example = "/healthz")]
    healthz: &'static str,
    /// Whether it can do its work.
    #[schema(example = "/readyz")]
    readyz: &'static str,
    /// What it measures, for Prometheus.
    #[schema(example = "/metrics")]
    metrics: &'static str,
}

const FRONT: Front = Front {
    name: "postrider",
    version: env!("CARGO_PKG_VERSION"),
    links: Links {
        openapi: "/openapi.json",
        docs: "/docs/",
        healthz: "/healthz",
        readyz: "/readyz",
        metrics: "/metrics",
    },
};

const PAGE: &str = concat!(
    "<!DOCTYPE html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Postrider</title>
<h1>Postrider ",
    env!("CARGO_PKG_VERSION"),
    "</h1>
<p>Queues, job channels and a delivery hub on nothing but PostgreSQL run here.</p>
<ul>
<li><a href=\"/docs/\">Reference</a>: every operation, to read and to try
<li><a href=\"/openapi.json\">OpenAPI description</a>, for programs and generated clients
<li><a href=\"/readyz\">Whether it can do its work</a>, and what is not in order
<li><a href=\"/metrics\">Metrics</a>, for Prometheus
</ul>
<p>Every other request needs a token: <code>Authorization: Bearer …</code>. <code>postrider token --role system_admin</code>,
typed where this server runs, signs one; <code>postrider doctor</code> says what is not in order.</p>
</html>
"
);

/// What runs here and where to go: a page for a browser, links for a program.
#[utoipa::path(
    get,
    path = "/",
    tag = "operations",
    security(()),
    responses((status = OK, description = "What runs here, and where to go", content(
        (Front = "application/json"),
        (String = "text/html"),
    )), OpenProblems)
)]
pub(super) async fn front(headers: HeaderMap) -> Response {
    let page =
        if asks_for_a_page(&headers) { Html(PAGE).into_response() } else { Json(FRONT).into_response() };
    ([(header::VARY, HeaderValue::from_static("accept"))], page).into_response()
}

/// Browsers name HTML before all else; programs name JSON, or anything.
fn asks_for_a_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = accepted.flat_map(|value| value.split(','));
    let mut kinds = kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    kinds.find(|kind| kind == "text/html" || kind.ends_with("json")).is_some_and(|kind| kind == "text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_page_and_a_program_links() {
        for (accept, page) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("application/json, text/html"), false),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), true),
            (Some("Text/HTML"), true),
        ] {
            let headers = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept)));
            assert_eq!(asks_for_a_page(&HeaderMap::from_iter(headers)), page, "{accept:?}");
        }
    }
}

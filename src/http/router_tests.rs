//! The router as a client meets it: an imaginary feature among the routes that are always there.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::extract::{Path, Query};
use super::openapi::{BodyProblems, Problems};
use super::*;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::http::{Request, Response, StatusCode, header};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Notify;
use tower::ServiceExt;
use uuid::Uuid;

#[derive(Clone)]
struct AppState {
    letters: Letters,
}

#[derive(Clone)]
struct Letters(Arc<Notify>);

impl FromRef<AppState> for Letters {
    fn from_ref(state: &AppState) -> Self {
        state.letters.clone()
    }
}

#[derive(serde::Deserialize)]
struct Page {
    limit: u8,
}

/// Read a letter.
#[utoipa::path(get, path = "/letters/{id}", tag = "letters", params(("id" = Uuid, Path)),
    responses((status = OK, body = String), Problems))]
async fn read(Path(id): Path<Uuid>, Query(page): Query<Page>) -> String {
    format!("{id} {}", page.limit)
}

/// Write a letter.
#[utoipa::path(post, path = "/letters", tag = "letters", responses((status = CREATED), Problems, BodyProblems))]
async fn write() -> Result<StatusCode, Error> {
    panic!("out of ink")
}

/// Wait for a letter.
#[utoipa::path(get, path = "/letters/wait", tag = "letters", responses((status = OK)))]
async fn wait(State(Letters(arrived)): State<Letters>) -> &'static str {
    arrived.notified().await;
    "arrived"
}

fn app() -> (Router, Arc<Notify>) {
    let arrived = Arc::new(Notify::new());
    let state = AppState { letters: Letters(Arc::clone(&arrived)) };
    let letters = OpenApiRouter::new()
        .routes(routes!(read))
        .routes(routes!(write))
        .routes(routes!(wait))
        .with_state::<()>(state);
    let nowhere = sqlx::postgres::PgConnectOptions::new_without_pgpass().socket("/nowhere");
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(10))
        .connect_lazy_with(nowhere);
    let readiness = health::Readiness::new(pool);
    let limits = limits::Limits { working: 1, waiting: 1, long_polls: &["/letters/wait"], bodies: 1 << 20 };
    let in_flight = limits::InFlight::new(limits);
    let on_scrape = metrics::OnScrape::default();
    (
        router(
            letters,
            HttpState {
                readiness,
                in_flight,
                on_scrape,
                origins: Origins::None,
                header_prefix: "x-letters-",
                tracer: Tracer::default(),
            },
        ),
        arrived,
    )
}

async fn send(app: &Router, method: &str, path: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn problem(app: &Router, method: &str, path: &str) -> (u16, Value) {
    let response = send(app, method, path).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem["detail"].clone())
}

#[tokio::test]
async fn a_route_answers_with_the_common_headers() {
    let (app, _) = app();
    let response = send(&app, "GET", "/letters/00000000-0000-0000-0000-000000000001?limit=7").await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert!(!response.headers()["x-request-id"].is_empty());
    assert_eq!(text(response).await, "00000000-0000-0000-0000-000000000001 7");
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let (app, _) = app();
    assert_eq!(problem(&app, "GET", "/nothing").await.0, 404);
    assert_eq!(problem(&app, "GET", "/letters/not-an-id?limit=1").await.0, 404);
    assert_eq!(problem(&app, "GET", "/letters/%ff?limit=1").await.0, 404);
    let (status, detail) =
        problem(&app, "GET", "/letters/00000000-0000-0000-0000-000000000001?limit=x").await;
    assert!(status == 400 && detail.as_str().unwrap().contains("limit"), "{detail}");
    assert_eq!(problem(&app, "DELETE", "/letters").await.0, 405);
    assert_eq!(send(&app, "DELETE", "/letters").await.headers()[header::ALLOW], "POST");
    assert_eq!(problem(&app, "GET", "/docs/nothing.js").await.0, 404);
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let (app, _) = app();
    assert_eq!(problem(&app, "POST", "/letters").await, (500, Value::Null));
    assert_eq!(problem(&app, "POST", "/letters").await.0, 500, "its place was given back");
}

#[tokio::test]
async fn a_full_server_refuses_at_once_and_can_still_be_looked_at() {
    let (app, arrived) = app();
    let mut waiting = tokio::task::JoinSet::new();
    let other = app.clone();
    waiting.spawn(async move { text(send(&other, "GET", "/letters/wait").await).await });
    tokio::task::yield_now().await;
    let refused = send(&app, "GET", "/letters/wait").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(send(&app, "GET", "/healthz").await.status(), StatusCode::OK);
    assert_eq!(problem(&app, "GET", "/nothing").await.0, 404, "a long poll takes no other room");
    arrived.notify_one();
    assert_eq!(waiting.join_next().await.unwrap().unwrap(), "arrived");
    arrived.notify_one();
    assert_eq!(send(&app, "GET", "/letters/wait").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_server_without_its_database_lives_and_is_not_ready() {
    let (app, _) = app();
    assert_eq!(send(&app, "GET", "/healthz").await.status(), StatusCode::OK);
    let response = send(&app, "GET", "/readyz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(response).await, r#"{"status":"unready","red":["database"]}"#);
}

#[tokio::test]
async fn requests_are_counted_by_their_template() {
    let (app, _) = app();
    send(&app, "GET", "/letters/00000000-0000-0000-0000-000000000002?limit=1").await;
    let metrics = text(send(&app, "GET", "/metrics").await).await;
    let counted = r#"postrider_http_requests_total{method="GET",route="/letters/{id}",status="200"}"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!metrics.contains("/letters/0"), "{metrics}");
}

#[tokio::test]
async fn the_document_describes_every_route_and_how_to_authenticate() {
    let (app, _) = app();
    let response = send(&app, "GET", "/openapi.json").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let api: Value = serde_json::from_str(&text(response).await).unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(api["info"]["title"], "Postrider");
    assert_eq!(api["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths: Vec<_> = api["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/",
            "/healthz",
            "/letters",
            "/letters/wait",
            "/letters/{id}",
            "/metrics",
            "/openapi.json",
            "/readyz"
        ]
    );
    assert_eq!(api["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(api["components"]["securitySchemes"]["x-access-token"]["in"], "header");
    assert_eq!(api["security"].as_array().unwrap().len(), 2);
    assert_eq!(api["paths"]["/healthz"]["get"]["security"], serde_json::json!([{}]));
    let responses = &api["paths"]["/letters"]["post"]["responses"];
    for status in ["201", "400", "401", "403", "404", "408", "413", "415", "422", "500", "503"] {
        assert!(responses.get(status).is_some(), "{status}: {responses}");
    }
    let schema = &responses["401"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/Problem");
    assert!(api["components"]["schemas"]["Problem"]["properties"]["errors"].is_object());
}

#[tokio::test]
async fn the_reference_needs_nothing_from_elsewhere() {
    let (app, _) = app();
    assert_eq!(send(&app, "GET", "/docs").await.status(), StatusCode::SEE_OTHER);
    let page = send(&app, "GET", "/docs/").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && !policy.contains("http"), "{policy}");
    let page = text(page).await;
    // The policy forbids scripts in the page and hosts other than this one: there are none.
    for tag in page.split("<script").skip(1) {
        assert!(tag.starts_with(" src=\"./"), "{tag}");
        let file = tag.split('"').nth(1).unwrap().trim_start_matches("./");
        assert_eq!(send(&app, "GET", &format!("/docs/{file}")).await.status(), StatusCode::OK, "{file}");
    }
    assert!(!page.contains("://"), "{page}");
    let start = text(send(&app, "GET", "/docs/swagger-initializer.js").await).await;
    assert!(start.contains("/openapi.json") && start.contains(r#""validatorUrl": "none""#), "{start}");
}

//! Counts and durations for Prometheus, at `/metrics`.
//!
//! Any part of Postrider records with the macros of the `metrics` crate, and describes its series where it
//! names them; those of HTTP are here. `/metrics` tells route templates, names of queues, stores and endpoints, and
//! counts, never ids or payloads: for those names it asks for a token with a role, unless a setting opens it.

mod holdups;
mod registry;
mod render;

pub use holdups::Holdups;

use super::openapi::Problems;
use crate::error::{Result, Unreadable};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse;
use futures::future::BoxFuture;
use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use parking_lot::RwLock;
use registry::Registry;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Requests answered, by `method`, `route` (the template) and `status`.
pub const HTTP_REQUESTS: &str = "postrider_http_requests_total";
/// How long requests took until their answer began, in seconds, by `method` and `route`.
pub const HTTP_DURATION: &str = "postrider_http_request_duration_seconds";
/// Always 1, by `version`.
const BUILD: &str = "postrider_build_info";

/// The most names of queues, or of endpoints, that one metric tells; a histogram of so many is a megabyte.
const MOST_NAMES: usize = 500;
/// A series with such a name goes when it has not changed for so long.
const IDLE: Duration = Duration::from_hours(1);
/// How often it is looked for these.
const SWEEP: Duration = Duration::from_mins(1);

/// The series of this process. Installed at the first call; several servers in one process share them, as the
/// `metrics` macros know only one recorder.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let registry = Registry::new(MOST_NAMES, IDLE);
        if metrics::set_global_recorder(registry.clone()).is_err() {
            tracing::warn!(
                "the program that embeds Postrider has its own metrics recorder: /metrics stays empty"
            );
        }
        describe_counter!(HTTP_REQUESTS, Unit::Count, "Requests answered");
        describe_histogram!(HTTP_DURATION, Unit::Seconds, "Time until the answer to a request began");
        describe_gauge!(BUILD, Unit::Count, "The version that runs");
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        registry
    })
}

/// Has what is recorded from now on come to `/metrics`.
pub fn install() {
    registry();
}

/// Forgets all series with this label: what it names is gone.
pub fn forget(label: &str, value: &str) {
    registry().forget(label, value);
}

/// Forgets series that are idle, now and then, until `shutdown`. Every server runs it.
pub async fn upkeep(shutdown: CancellationToken) {
    let rounds = async {
        let mut round = tokio::time::interval(SWEEP);
        loop {
            round.tick().await;
            registry().sweep(Instant::now());
        }
    };
    shutdown.run_until_cancelled(rounds).await;
}

type Measure = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;
type Admit = dyn Fn(HeaderMap) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// What happens when somebody asks, and not before: an idle server sends no statements for it.
#[derive(Clone)]
pub struct OnScrape {
    measure: Arc<Measure>,
    admit: Arc<Admit>,
}

impl OnScrape {
    /// Awaits `measure` before each answer: it must be quick, whatever the database does. Everybody is answered.
    pub fn new(measure: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { measure: Arc::new(measure), admit: Arc::new(|_| Box::pin(std::future::ready(Ok(())))) }
    }

    /// Answers only those whose headers `admit` accepts.
    #[must_use]
    pub fn admitting(
        mut self,
        admit: impl Fn(HeaderMap) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        self.admit = Arc::new(admit);
        self
    }
}

impl Default for OnScrape {
    fn default() -> Self {
        Self::new(|| Box::pin(std::future::ready(())))
    }
}

impl std::fmt::Debug for OnScrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnScrape")
    }
}

/// What has been counted, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    operation_id = "get_metrics",
    responses(
        (status = OK, description = "Metrics in the text format of Prometheus", body = String, content_type = "text/plain"),
        Problems,
    )
)]
pub(super) async fn show(
    State(OnScrape { measure, admit }): State<OnScrape>,
    unreadable: Option<Extension<Unreadable>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse> {
    admit(headers).await?;
    if let Some(Extension(why)) = unreadable {
        return Err(why.into());
    }
    measure().await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry().render()))
}

/// The series of each route, looked up once and then kept: to find them by their labels costs more than to
/// count.
#[derive(Debug, Default)]
pub(super) struct Requests {
    routes: RwLock<HashMap<String, Vec<Series>>>,
}

#[derive(Debug)]
struct Series {
    method: &'static str,
    status: StatusCode,
    count: Counter,
    duration: Histogram,
}

impl Requests {
    /// Counts a request to `route`, which was answered with `status` after `took`.
    pub(super) fn record(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = label(method);
        let known = |series: &&Series| series.method == method && series.status == status;
        if let Some(series) = self.routes.read().get(route).and_then(|series| series.iter().find(known)) {
            return series.record(took);
        }
        install();
        let count = counter!(HTTP_REQUESTS, "method" => method, "route" => route.to_owned(),
            "status" => status.as_str().to_owned());
        let duration = histogram!(HTTP_DURATION, "method" => method, "route" => route.to_owned());
        let series = Series { method, status, count, duration };
        series.record(took);
        self.routes.write().entry(route.to_owned()).or_default().push(series);
    }
}

impl Series {
    fn record(&self, took: Duration) {
        self.count.increment(1);
        self.duration.record(took);
    }
}

/// Methods are the client's to invent, series are ours to bound.
fn label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let requests = Requests::default();
        let odd = Method::from_bytes(b"BREW").unwrap();
        for (method, status) in [(&Method::GET, 200), (&Method::GET, 200), (&Method::GET, 404), (&odd, 405)] {
            let status = StatusCode::from_u16(status).unwrap();
            requests.record(method, "/metrics-test/{id}", status, Duration::from_millis(3));
        }
        let text = registry().render();
        let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        has(r#"postrider_http_requests_total{method="GET",route="/metrics-test/{id}",status="200"} 2"#);
        has(r#"postrider_http_requests_total{method="GET",route="/metrics-test/{id}",status="404"} 1"#);
        has(r#"postrider_http_requests_total{method="other",route="/metrics-test/{id}",status="405"} 1"#);
        has(
            r#"postrider_http_request_duration_seconds_bucket{method="GET",route="/metrics-test/{id}",le="0.0025"} 0"#,
        );
        has(
            r#"postrider_http_request_duration_seconds_bucket{method="GET",route="/metrics-test/{id}",le="0.005"} 3"#,
        );
    }
}

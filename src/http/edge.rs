//! What happens to every request around its handler, in one place and in this order: a name, the answer to a browser's
//! preflight, a place among the requests in flight, a look at the names in the query, the handler (whose panic is
//! caught), a count, a line in the log, a span, the common headers, those for pages of other origins.

use super::arriving::Arriving;
use super::cors::Cors;
use super::limits::InFlight;
use super::metrics::Requests;
use super::parameters::{Known, Refusal};
use super::request_id;
use super::trace::{AccessLog, Seen};
use crate::error::{Cause, Error, Problem};
use crate::traces::{Begun, Kind, Span, Tracer};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) parameters: Known,
    pub(super) cors: Cors,
    pub(super) in_flight: InFlight,
    pub(super) requests: Requests,
    pub(super) log: AccessLog,
    pub(super) tracer: Tracer,
}

/// The middleware around everything.
pub(super) async fn around(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id::of(request.headers());
    // Who stores something for it keeps this name with it.
    request.headers_mut().insert(request_id::HEADER, id.clone());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let begun = edge.tracer.serve(request.headers(), begins_a_trace(&method, route));
    if let Some(begun) = &begun {
        // Who stores something for it, or asks others, is a child of this.
        begun.context.send(request.headers_mut());
    }
    let span =
        tracing::debug_span!("request", id = id.to_str().unwrap_or_default(), %method, path = uri.path());
    let origin = edge.cors.allowed(request.headers());
    let answer = match edge.cors.preflight(&method, request.headers()) {
        Some(answer) => Ok(answer),
        None => edge.answer(route, request, next).instrument(span).await,
    };
    let answer = answer.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Error::internal(anyhow::anyhow!("panic: {}", message.unwrap_or("of another type"))).into_response()
    });
    let mut answer = as_problem(answer);
    let (status, took) = (answer.status(), started.elapsed());
    edge.requests.record(&method, route, status, took);
    let cause = answer.extensions().get::<Cause>();
    edge.log.answered(&Seen { id: &id, method: &method, path: uri.path(), status, took, cause });
    if let Some(begun) = begun {
        edge.tracer.end(served(begun, (&method, route, uri.path()), status, took));
    }
    common_headers(answer.headers_mut(), id);
    edge.cors.permit(origin, answer.headers_mut());
    answer
}

impl Edge {
    /// What the handler answers, or why it is not asked; the error is its panic.
    async fn answer(&self, route: &str, mut request: Request, next: Next) -> std::thread::Result<Response> {
        let refusal = self.parameters.refuse(route, request.method(), request.uri().query());
        match (self.in_flight.admit(route, token(request.headers())), refusal) {
            (Ok(_), Some(Refusal::Now(why))) => Ok(Error::from(why).into_response()),
            // The place is kept until the answer begins.
            (Ok(place), refusal) => {
                if let Some(Refusal::Later(why)) = refusal {
                    request.extensions_mut().insert(why);
                }
                let request = request.map(|body| Arriving::watch(body, &place));
                AssertUnwindSafe(next.run(request)).catch_unwind().await
            }
            (Err(refused), _) => Ok(refused.into_response()),
        }
    }
}

/// Whether the span of such a request may be the first of a trace. One that changes nothing, or that a worker repeats
/// for as long as there is nothing for it, is one only as a part of a trace.
fn begins_a_trace(method: &Method, route: &str) -> bool {
    let is_repeated = route.ends_with("/claim") || route.ends_with("/heartbeat");
    !is_repeated && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The span of a request. As in the log, no query and no header is in it.
fn served(
    begun: Begun,
    (method, route, path): (&Method, &str, &str),
    status: StatusCode,
    took: Duration,
) -> Span {
    let mut attributes = vec![
        ("http.request.method", method.as_str().into()),
        ("http.route", route.into()),
        ("url.path", path.into()),
        ("url.scheme", "http".into()),
        ("http.response.status_code", status.as_u16().into()),
    ];
    let failed = status.is_server_error();
    if failed {
        attributes.push(("error.type", status.as_str().into()));
    }
    Span {
        name: format!("{method} {route}"),
        kind: Kind::Server,
        context: begun.context,
        parent: begun.parent,
        started_at: begun.started_at,
        took,
        attributes,
        failed,
    }
}

/// What the request says of its caller, before anybody has looked whether it is true.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let sent = headers.get("x-access-token").or_else(|| headers.get(header::AUTHORIZATION));
    sent.map(HeaderValue::as_bytes)
}

/// Gives a refusal that does not come from us, such as one of axum, the form of all others.
fn as_problem(answer: Response) -> Response {
    let status = answer.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    match answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"text/plain; charset=utf-8") => {
            let mut problem = Problem::new(status, None).into_response();
            // `Allow` of a 405 stays.
            if let Some(allow) = answer.headers().get(header::ALLOW) {
                problem.headers_mut().insert(header::ALLOW, allow.clone());
            }
            problem
        }
        Some(_) => answer,
    }
}

/// Headers that a browser heeds; a route that sets one itself keeps it.
fn common_headers(headers: &mut HeaderMap, id: HeaderValue) {
    const COMMON: [(HeaderName, HeaderValue); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
    ];
    for (name, value) in COMMON {
        headers.entry(name).or_insert(value);
    }
    headers.insert(request_id::HEADER, id);
}

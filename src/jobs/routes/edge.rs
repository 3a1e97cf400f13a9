//! What clients in the field expect around every route of the job channels: a session token in its own
//! header, a trace in the log, errors in `_errors`, and of a type that they read.

use super::state::Jobs;
use crate::error::{Cause, Error, Problem, Violation};
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tracing::Instrument as _;

/// What the names of all headers of clients in the field begin with.
pub const HEADER_PREFIX: &str = "x-cardsavr-";
/// The header that carries the token of clients in the field.
pub(super) const SESSION: &str = "x-cardsavr-session-jwt";
/// The header that names a request in the log.
pub(super) const TRACE: &str = "x-cardsavr-trace";
const X_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");
/// The longest trace in the log, in characters.
const LONGEST_TRACE: usize = 100;

/// The middleware around every route of this feature.
pub(super) async fn around(State(jobs): State<Jobs>, mut request: Request, next: Next) -> Response {
    let reads_json_alone = is_of_the_field(request.headers());
    if !is_ours(request.uri().path(), &jobs) {
        let nothing = Error::NotFound("there is nothing here".to_owned()).into_response();
        // What is nobody's answers as it does everywhere; of clients in the field, as they read it.
        return if reads_json_alone { with_errors(nothing, true).await } else { nothing };
    }
    accept_session(request.headers_mut());
    let answer = match trace(request.headers()) {
        // As a string it is escaped by either format of the log.
        Some(key) => {
            let span = tracing::info_span!("trace", trace = key.as_str());
            async {
                let answer = next.run(request).await;
                tracing::debug!(status = answer.status().as_u16(), "answered a traced request");
                answer
            }
            .instrument(span)
            .await
        }
        None => next.run(request).await,
    };
    with_errors(answer, reads_json_alone).await
}

/// Whether a client in the field sends this, which reads a body only if it calls itself plain JSON.
fn is_of_the_field(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(HEADER_PREFIX))
}

/// Whether the address begins with a kind of jobs that there is, or is one of those beside them.
fn is_ours(path: &str, jobs: &Jobs) -> bool {
    let mut segments = path.split('/').skip(1);
    match (segments.next(), segments.next()) {
        (Some("session"), _) => jobs.sdk.is_some(),
        (Some("messages"), Some("cardholders")) | (Some("merchant_sites" | "cardsavr_accounts"), _) => true,
        (Some("messages"), Some(name)) | (Some(name), _) => jobs.types.by_name(name).is_some(),
        (None, _) => false,
    }
}

/// Takes the session header for the token, when there is no other.
fn accept_session(headers: &mut HeaderMap) {
    if headers.contains_key(X_ACCESS_TOKEN) || headers.contains_key(header::AUTHORIZATION) {
        return;
    }
    let sessions: Vec<HeaderValue> = headers.get_all(SESSION).iter().cloned().collect();
    for session in sessions {
        headers.append(X_ACCESS_TOKEN, session);
    }
}

/// The key of the trace header, bounded.
fn trace(headers: &HeaderMap) -> Option<String> {
    let trace: Value = serde_json::from_slice(headers.get(TRACE)?.as_bytes()).ok()?;
    Some(trace.get("key")?.as_str()?.chars().take(LONGEST_TRACE).collect())
}

/// Adds `_errors` and `message` to a problem document, all strings; for clients in the field it is plain JSON.
pub(super) async fn with_errors(answer: Response, is_plain: bool) -> Response {
    let problem = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let error = answer.status().is_client_error() || answer.status().is_server_error();
    if !error || !matches!(problem, Some(b"application/problem+json" | b"text/plain; charset=utf-8") | None) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let mut problem: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| serde_json::to_value(Problem::new(parts.status, None)).unwrap_or_default());
    let title = problem["title"].as_str().unwrap_or_default().to_owned();
    let message = problem["detail"].as_str().unwrap_or(&title).to_owned();
    let errors: Vec<Value> = match problem["errors"].as_array() {
        Some(violations) => violations
            .iter()
            .map(|broken| {
                let property = broken["pointer"].as_str().unwrap_or_default().trim_start_matches('/');
                json!({ "name": title, "message": broken["message"], "property": property })
            })
            .collect(),
        None => vec![json!({ "name": title, "message": message, "property": "" })],
    };
    if let Some(members) = problem.as_object_mut() {
        members.insert("_errors".to_owned(), Value::Array(errors));
        members.insert("message".to_owned(), Value::String(message));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    let kind = if is_plain { "application/json" } else { "application/problem+json" };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let cause: Option<Cause> = parts.extensions.get().cloned();
    let mut answer = (parts, problem.to_string()).into_response();
    if let Some(cause) = cause {
        answer.extensions_mut().insert(cause);
    }
    answer
}

/// 422 for one member of a body.
pub(super) fn member(name: &str, keyword: &str, message: &str) -> Error {
    let violation = Violation::new(format!("/{name}"), keyword, message);
    Error::Invalid(format!("`{name}` {message}"), vec![violation])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_bounded_and_anything_else_is_none() {
        let of = |text: &str| trace(&HeaderMap::from_iter([(TRACE.parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(of(r#"{"key": "my_trace"}"#).as_deref(), Some("my_trace"));
        assert_eq!(of(&format!(r#"{{"key":"{}"}}"#, "a".repeat(500))).unwrap().len(), 100);
        for none in ["", "{", "[]", r#"{"key":1}"#, r#"{"other":"x"}"#] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_session_is_the_token_when_there_is_no_other() {
        let session = || HeaderMap::from_iter([(SESSION.parse().unwrap(), HeaderValue::from_static("mine"))]);
        let mut headers = session();
        accept_session(&mut headers);
        assert_eq!(headers[X_ACCESS_TOKEN], "mine");
        let mut headers = session();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer other"));
        accept_session(&mut headers);
        assert!(!headers.contains_key(X_ACCESS_TOKEN));
    }

    #[tokio::test]
    async fn a_refusal_has_the_fields_of_both_kinds() {
        let answer = with_errors(
            member("percent_complete", "range", "must lie between 0 and 100").into_response(),
            true,
        );
        let answer = answer.await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let problem: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["message"], "`percent_complete` must lie between 0 and 100");
        assert_eq!(
            problem["_errors"],
            json!([{
                "name": "Unprocessable Entity", "message": "must lie between 0 and 100",
                "property": "percent_complete"
            }])
        );
    }
}

//! What an answer must look like: the status, and for a refusal the problem document of RFC 9457.

use postrider::internals::http::to_value;
use reqwest::Response;
use serde_json::Value;

/// The body of an answer that has this status.
#[track_caller]
pub(crate) fn text(response: Response, status: u16) -> impl Future<Output = String> {
    let at = std::panic::Location::caller();
    async move {
        let found = response.status().as_u16();
        let body = response.text().await.unwrap();
        assert_eq!(found, status, "{at}: {body}");
        body
    }
}

/// The JSON of an answer that has this status; what no value holds has its stand-in there.
#[track_caller]
pub(crate) fn json(response: Response, status: u16) -> impl Future<Output = Value> {
    let text = text(response, status);
    async move { to_value(&text.await).unwrap() }
}

/// The problem document of a refusal with this status.
#[track_caller]
pub(crate) fn refusal(response: Response, status: u16) -> impl Future<Output = Value> {
    let at = std::panic::Location::caller();
    let kind = response.headers().get("content-type").cloned();
    let authenticate = response.headers().contains_key("www-authenticate");
    let text = text(response, status);
    async move {
        let text = text.await;
        assert_eq!(kind.unwrap(), "application/problem+json", "{at}");
        assert_eq!(authenticate, status == 401, "{at}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["status"], status, "{at}: {text}");
        assert!(problem["title"].is_string() && problem["type"] == "about:blank", "{at}: {text}");
        assert_eq!(problem.get("errors").is_some(), status == 422, "{at}: {text}");
        problem
    }
}

/// Pointer and keyword of each violation in a problem document, sorted.
pub(crate) fn violations(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().unwrap().iter();
    let mut found: Vec<_> = errors
        .map(|error| (error["pointer"].as_str().unwrap(), error["keyword"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    found
}

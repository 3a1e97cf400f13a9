//! `integrationService`: other systems, behind one address.

use super::answer::Answer;
use super::caller::{Caller, Request};
use super::{Args, ServiceError};
use crate::http::json_text::to_value;
use axum::http::Method;
use serde_json::Value;

/// `callIntegration(name, method, params)`: `{method} {base}/{name}`, with the parameters in the query of a
/// GET or DELETE and in the body of a POST, PUT or PATCH.
pub(super) async fn call(caller: &Caller<'_>, method: &str, args: &Args) -> Answer {
    if method != "callIntegration" {
        return Err(caller.unknown(method));
    }
    let name = args.text(0, "name")?;
    let verb = args.text(1, "method")?.to_ascii_uppercase();
    match verb.as_str() {
        "GET" | "DELETE" => {
            let method = if verb == "GET" { Method::GET } else { Method::DELETE };
            let params = query(args)?;
            let query: Vec<_> = params.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
            caller.json(Request { method, path: &[&name], query: &query, body: None }).await
        }
        "POST" | "PUT" | "PATCH" => {
            let method = match verb.as_str() {
                "POST" => Method::POST,
                "PUT" => Method::PUT,
                _ => Method::PATCH,
            };
            caller.json(Request { method, path: &[&name], query: &[], body: args.optional(2) }).await
        }
        _ => Err(ServiceError::new("the argument method is none of GET, POST, PUT, PATCH, DELETE")),
    }
}

/// An object as a query: texts bare, everything else as JSON.
fn query(args: &Args) -> Result<Vec<(String, String)>, ServiceError> {
    let Some(params) = args.optional(2) else { return Ok(Vec::new()) };
    let Some(Value::Object(params)) = to_value(params.get()) else {
        return Err(ServiceError::new("the argument params is no object"));
    };
    let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
    Ok(params.into_iter().map(|(key, value)| (key, text(value))).collect())
}

//! A question to an endpoint that carries no message: can it be reached, what services does it have.

use crate::http::outbound::Request;
use crate::hub::definitions::endpoint::{Endpoint, Wire};
use crate::hub::definitions::header::Value;
use axum::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use std::time::Duration;
use url::Url;

/// How long somebody who waits for what comes of a question waits at most.
pub(in crate::hub) const PATIENCE: Duration = Duration::from_secs(10);

/// A GET of an endpoint, with what every request to it bears: what a header says of a message is left out.
pub(in crate::hub) fn ask(endpoint: &Endpoint, url: Url, max_response: usize) -> Request {
    let mut headers = HeaderMap::new();
    let fixed = endpoint.headers.iter().filter_map(|ready| match &ready.value {
        Value::Fixed(value) => Some((ready.name.clone(), value.clone())),
        Value::Template(_) => None,
    });
    headers.extend(fixed);
    if endpoint.definition.wire == Wire::Messages {
        bear(&mut headers, endpoint);
    }
    let timeout = endpoint.definition.timeout.min(PATIENCE);
    Request { method: Method::GET, url, headers, body: Bytes::new(), timeout, max_response }
}

fn bear(headers: &mut HeaderMap, endpoint: &Endpoint) {
    if let Some(mut token) =
        endpoint.token.as_ref().and_then(|token| HeaderValue::from_str(token.expose_secret()).ok())
    {
        token.set_sensitive(true);
        headers.insert("x-hub-token", token.clone());
        headers.insert("x-augury-token", token);
    }
    if let Ok(store) = HeaderValue::from_str(&endpoint.store) {
        headers.insert("x-hub-store", store);
    }
}

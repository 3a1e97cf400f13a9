//! A question to an endpoint that carries no message: can it be reached, what services does it have.

use crate::http::outbound::Request;
use crate::hub::definitions::endpoint::Endpoint;
use axum::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use std::time::Duration;
use url::Url;

/// How long somebody who waits for what comes of a question waits at most.
pub(in crate::hub) const PATIENCE: Duration = Duration::from_secs(10);

/// A GET of an endpoint, with what every request to it bears.
pub(in crate::hub) fn ask(endpoint: &Endpoint, url: Url, max_response: usize) -> Request {
    let mut headers = HeaderMap::new();
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
    let timeout = endpoint.definition.timeout.min(PATIENCE);
    Request { method: Method::GET, url, headers, body: Bytes::new(), timeout, max_response }
}

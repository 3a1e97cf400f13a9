//! HTTP as the services use it: the server's guarded client.

use axum::http::{HeaderMap, Method, StatusCode};
use futures::future::BoxFuture;
use std::sync::Arc;
use url::Url;

/// A request. Its `Authorization` is marked sensitive and does not show in `Debug`.
#[derive(Debug)]
pub struct HttpCall {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: Url,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// Makes a call: the server's guarded client, with its limits on addresses, size and time. The error is for
/// the handler's eyes.
pub type Send =
    Arc<dyn Fn(HttpCall) -> BoxFuture<'static, Result<HttpAnswer, String>> + std::marker::Send + Sync>;

//! One HTTP call of a service: its address, the token, and what its answer means.

use super::ServiceError;
use super::answer::{not_configured, nothing, unknown};
use super::directory::Directory;
use super::http::{HttpAnswer, HttpCall};
use crate::traces::Context;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::ExposeSecret;
use serde_json::value::RawValue;
use url::Url;

/// A service, as one queue's client calls it.
pub(super) struct Caller<'a> {
    directory: &'a Directory,
    service: &'a str,
    client_id: Option<&'a str>,
    trace: Option<&'a Context>,
}

/// A call to be: its path below the service's address, its query and its body.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a RawValue>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        service: &'a str,
        client_id: Option<&'a str>,
        trace: Option<&'a Context>,
    ) -> Self {
        Self { directory, service, client_id, trace }
    }

    /// The error of a service without an address.
    pub(super) fn not_configured(&self) -> ServiceError {
        not_configured(self.service)
    }

    /// The error of a call that makes no sense.
    pub(super) fn unknown(&self, method: &str) -> ServiceError {
        unknown(self.service, method)
    }

    /// Calls, and returns what a 2xx answers.
    ///
    /// # Errors
    /// The service is not configured, cannot be reached, or answers with another status.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<HttpAnswer, ServiceError> {
        let base = self.directory.base(self.service).ok_or_else(|| self.not_configured())?;
        let mut url = base.clone();
        self.extend(&mut url, request.path)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if request.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(trace) = self.trace {
            trace.send(&mut headers);
        }
        if let Some(token) = self.directory.token(self.client_id).await? {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut bearer = bearer.map_err(|_| ServiceError::new("the access token cannot be sent"))?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        let body = request.body.map(|body| body.get().as_bytes().to_vec());
        let call = HttpCall { method: request.method, url, headers, body };
        let answer = self.directory.send(call).await;
        let answer = answer.map_err(|why| ServiceError::new(format!("{}: {why}", self.service)))?;
        if answer.status == StatusCode::UNAUTHORIZED {
            self.directory.forget_token(self.client_id);
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status.as_u16();
        let message = format!("{} answered {status}", self.service);
        Err(ServiceError { message, status: Some(status) })
    }

    /// Calls, and returns the JSON of the answer; `null` for an empty one.
    pub(super) async fn json(&self, request: Request<'_>) -> Result<Box<RawValue>, ServiceError> {
        self.body(&self.send(request).await?)
    }

    /// The JSON of an answer; `null` for an empty one.
    pub(super) fn body(&self, answer: &HttpAnswer) -> Result<Box<RawValue>, ServiceError> {
        if answer.body.is_empty() {
            return Ok(nothing());
        }
        let json = serde_json::from_slice(&answer.body);
        json.map_err(|_| ServiceError::new(format!("{} answered with what is not JSON", self.service)))
    }

    /// Adds a path. A handler's message may have chosen parts of it, so it stays below the base.
    fn extend(&self, url: &mut Url, path: &[&str]) -> Result<(), ServiceError> {
        let mut segments = url.path_segments_mut().map_err(|()| self.not_configured())?;
        segments.pop_if_empty();
        for segment in path.iter().flat_map(|part| part.split('/')).filter(|segment| !segment.is_empty()) {
            if matches!(segment, "." | "..") {
                return Err(ServiceError::new("a path cannot hold . or .."));
            }
            segments.push(segment);
        }
        Ok(())
    }
}

//! Browsers on other origins: which may read our answers, and what their pages may send and see (CORS, as the Fetch
//! standard has it).
//!
//! The headers that a page may send are those that the description of the API names, with what every route reads, and
//! those with the prefix that a feature reserves for its clients.
//! Nothing depends on cookies, so no answer allows credentials: a page sends its token itself.

use crate::config::Origins;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::security::{ApiKey, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};

/// What every route reads, and what no description needs to name.
const READ_EVERYWHERE: [&str; 5] =
    ["accept", "authorization", "content-type", "last-event-id", "x-request-id"];
/// What every answer may carry, beside what the description names. `Date` tells a page how far its clock is off.
const SENT_EVERYWHERE: [&str; 6] =
    ["allow", "date", "location", "retry-after", "www-authenticate", "x-request-id"];
/// The methods of the API.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS");
/// So many headers that no description names are allowed at once.
const MOST_ASKED: usize = 100;
/// How long a browser may remember a preflight: two hours, the most that any does.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");

/// The origins that are allowed, and what their pages may send and see.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Origins,
    request_headers: BTreeSet<String>,
    prefix: &'static str,
    response_headers: HeaderValue,
}

impl Cors {
    /// Allows `origins` what `api` describes, and every header whose name begins with `prefix`.
    pub(super) fn of(origins: Origins, prefix: &'static str, api: &OpenApi) -> Self {
        let names = |always: &[&str], described: Vec<String>| {
            let all = always.iter().map(|name| (*name).to_owned()).chain(described);
            let all = all.filter_map(|name| name.parse::<HeaderName>().ok());
            all.map(|name| name.as_str().to_owned()).collect::<BTreeSet<String>>()
        };
        Self {
            origins,
            request_headers: names(&READ_EVERYWHERE, read_by(api)),
            prefix,
            response_headers: list(names(&SENT_EVERYWHERE, sent_by(api))),
        }
    }

    /// What a page may send that asks for these: always what is described, and of the rest what has the prefix.
    fn may_send(&self, headers: &HeaderMap) -> HeaderValue {
        let asked = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let asked = asked.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let asked = asked.filter_map(|name| name.trim().parse::<HeaderName>().ok());
        let more = asked.map(|name| name.as_str().to_owned()).filter(|name| name.starts_with(self.prefix));
        list(self.request_headers.iter().cloned().chain(more.take(MOST_ASKED)).collect())
    }

    /// The answer to a browser that asks on behalf of a page what it may send; none for any other request.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed(headers).is_none() {
            return None;
        }
        let answer = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, self.may_send(headers)),
            (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
        ];
        Some((StatusCode::NO_CONTENT, answer).into_response())
    }

    /// The origin that the answer to a request with these headers names, if its page may read it.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match &self.origins {
            Origins::None => None,
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::These(origins) => {
                let known = origins.iter().any(|known| known.as_bytes() == origin.as_bytes());
                known.then(|| origin.clone())
            }
        }
    }

    /// Lets the page of the origin `allowed` read an answer, whatever its status.
    pub(super) fn permit(&self, allowed: Option<HeaderValue>, answer: &mut HeaderMap) {
        if matches!(self.origins, Origins::These(_)) {
            // Also where no origin is named: a cache must not keep that answer for those with one.
            answer.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.response_headers.clone());
        }
    }
}

/// The headers that the operations of `api` read, and those that carry tokens.
fn read_by(api: &OpenApi) -> Vec<String> {
    let operations =
        api.paths.paths.values().flat_map(|item| {
            [&item.get, &item.put, &item.post, &item.delete, &item.patch].into_iter().flatten()
        });
    let parameters = operations.flat_map(|operation| operation.parameters.iter().flatten());
    let headers = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Header => Some(parameter.name.clone()),
        _ => None,
    });
    let schemes = api.components.iter().flat_map(|components| components.security_schemes.values());
    let tokens = schemes.filter_map(|scheme| match scheme {
        RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(key))) => Some(key.name.clone()),
        _ => None,
    });
    headers.chain(tokens).collect()
}

/// The headers that the answers of `api` carry.
fn sent_by(api: &OpenApi) -> Vec<String> {
    let operations =
        api.paths.paths.values().flat_map(|item| {
            [&item.get, &item.put, &item.post, &item.delete, &item.patch].into_iter().flatten()
        });
    let responses = operations.flat_map(|operation| operation.responses.responses.values());
    let headers = responses.filter_map(|response| match response {
        RefOr::T(response) => Some(response.headers.keys().cloned()),
        RefOr::Ref(_) => None,
    });
    headers.flatten().collect()
}

/// Names of headers as the value of one.
fn list(names: BTreeSet<String>) -> HeaderValue {
    let text = names.into_iter().collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

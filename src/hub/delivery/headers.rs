//! The headers of a request: those of the hub, those that the definitions name, and its signatures.

use super::request::Sending;
use crate::http::signature;
use crate::hub::definitions::endpoint::{Endpoint, Wire};
use crate::hub::definitions::header::Value;
use crate::hub::definitions::template::Values;
use axum::http::{HeaderMap, HeaderValue, header};
use secrecy::ExposeSecret as _;

/// The headers of a request with this body.
///
/// # Errors
/// A token or a text that no header can hold, or a secret that is none: said without showing it.
pub(super) fn headers(sending: &Sending<'_>, body: &[u8]) -> Result<HeaderMap, String> {
    let endpoint = sending.endpoint;
    let shape = &sending.mapping.definition.options.shape;
    let mut headers = HeaderMap::with_capacity(12);
    let json = || HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, shape.content_type.clone().unwrap_or_else(json));
    let is_bare = endpoint.definition.wire == Wire::Raw;
    if !is_bare {
        headers.insert(header::ACCEPT, json());
        bear(&mut headers, endpoint)?;
        headers.insert("x-hub-timestamp", HeaderValue::from(sending.now.timestamp()));
        if let Some(trace) = sending.trace {
            trace.send(&mut headers);
        }
    }
    if !is_bare || !endpoint.signing_secrets.is_empty() {
        let secrets: Vec<_> = endpoint.signing_secrets.iter().collect();
        let (id, now) = (sending.delivery.to_string(), sending.now.timestamp());
        signature::sign(&mut headers, &id, now, body, &secrets)?;
    }
    if endpoint.headers.is_empty() && endpoint.signers.is_empty() && shape.headers.is_empty() {
        return Ok(headers);
    }
    let values = Values {
        message: sending.message.key,
        message_id: sending.message.id,
        id: sending.delivery,
        now: sending.now,
        url: sending.url,
        method: &sending.method(),
        body,
    };
    let text = |text: String| {
        HeaderValue::try_from(text).map_err(|_| "a text cannot be sent in a header".to_owned())
    };
    for ready in &endpoint.headers {
        let value = match &ready.value {
            Value::Fixed(value) => value.clone(),
            Value::Template(template) => text(template.text(&values))?,
        };
        headers.insert(ready.name.clone(), value);
    }
    for (name, template) in &shape.headers {
        headers.insert(name.clone(), text(template.text(&values))?);
    }
    for signer in &endpoint.signers {
        headers.insert(signer.header().clone(), signer.sign(&values)?);
    }
    Ok(headers)
}

/// The token of an endpoint, and whose it is.
fn bear(headers: &mut HeaderMap, endpoint: &Endpoint) -> Result<(), String> {
    if let Some(token) = &endpoint.token {
        let mut value = HeaderValue::try_from(token.expose_secret())
            .map_err(|_| "the endpoint's token cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert("x-augury-token", value.clone());
        headers.insert("x-hub-token", value);
    }
    if let Ok(store) = HeaderValue::try_from(&endpoint.store) {
        headers.insert("x-hub-store", store);
    }
    Ok(())
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;

//! The service request on the wire: where it goes, its headers, its body.

use super::linked::{Parameter, named};
use crate::http::json_text::{is, members};
use crate::http::signature;
use crate::hub::definitions::endpoint::Endpoint;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

/// The message that a service request carries.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its id: the same at every attempt.
    pub id: Uuid,
    /// Its key.
    pub key: &'a str,
    /// Its payload, as it was sent to us.
    pub payload: &'a RawValue,
}

/// The URL of a service: a path below the endpoint's, whose query stays.
pub fn url(base: &Url, service: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = service.split_once('?').map_or((service, None), |(path, query)| (path, Some(query)));
    let path = path.trim_start_matches('/');
    if !path.is_empty() {
        url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    }
    if let Some(query) = query {
        let joined = base.query().map_or_else(|| query.to_owned(), |former| format!("{former}&{query}"));
        url.set_query(Some(&joined));
    }
    url.set_fragment(None);
    url
}

/// The document that is posted. The members of the payload keep their bytes; `parameters` is always there, always
/// a list, and what is linked to the mapping wins over what the payload brought along.
pub fn body(message: Message<'_>, store: &str, parameters: &[Parameter]) -> Bytes {
    let mut text = String::with_capacity(message.payload.get().len() + 256);
    let id = message.id.to_string();
    for (before, value) in
        [("{\"message\":", message.key), (",\"message_id\":", &id), (",\"store_id\":", store)]
    {
        text.push_str(before);
        push_string(&mut text, value);
    }
    text.push_str(",\"payload\":{");
    let mut brought = Vec::new();
    for (key, value) in members(message.payload).unwrap_or_default() {
        if is(key, "parameters") {
            brought = named(value);
            continue;
        }
        text.push_str(key.get());
        text.push(':');
        text.push_str(value.get());
        text.push(',');
    }
    text.push_str("\"parameters\":[");
    brought.retain(|(name, _)| !parameters.iter().any(|linked| linked.name == *name));
    let brought = brought.iter().map(|(name, value)| (name, value));
    let linked = parameters.iter().map(|linked| (&linked.name, &linked.value));
    for (index, (name, value)) in brought.chain(linked).enumerate() {
        text.push_str(if index > 0 { ",{\"name\":" } else { "{\"name\":" });
        push_string(&mut text, name);
        text.push_str(",\"value\":");
        text.push_str(value.get());
        text.push('}');
    }
    text.push_str("]}}");
    Bytes::from(text)
}

/// The headers of a service request, signed when the endpoint has secrets. `id` is the delivery's: two mappings that
/// send one message to one receiver are two, and it drops neither as a repetition. `now` is in Unix seconds.
///
/// # Errors
/// A token that no header can hold, or a secret that is none: said without showing it.
pub fn headers(endpoint: &Endpoint, id: Uuid, now: i64, body: &[u8]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
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
    headers.insert("x-hub-timestamp", HeaderValue::from(now));
    let secrets: Vec<_> = endpoint.signing_secrets.iter().collect();
    signature::sign(&mut headers, &id.to_string(), now, body, &secrets)?;
    Ok(headers)
}

fn push_string(text: &mut String, value: &str) {
    // A string always serializes.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

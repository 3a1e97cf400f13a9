//! The request on the wire: where it goes, how, and its body.

use super::linked::{Parameter, named};
use crate::http::json_text::{is, members};
use crate::hub::definitions::endpoint::{Endpoint, Wire};
use crate::hub::definitions::mapping::Mapping;
use crate::traces::Context;
use axum::http::Method;
use bytes::Bytes;
use chrono::{DateTime, Utc};
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

/// A request that is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// To whom.
    pub endpoint: &'a Endpoint,
    /// By what.
    pub mapping: &'a Mapping,
    /// Where to.
    pub url: &'a Url,
    /// What.
    pub message: Message<'a>,
    /// The delivery's id: two mappings that send one message to one receiver are two, and it drops neither as a
    /// repetition.
    pub delivery: Uuid,
    /// When.
    pub now: DateTime<Utc>,
    /// As a part of which trace.
    pub trace: Option<&'a Context>,
}

impl Sending<'_> {
    /// Its method.
    pub fn method(&self) -> Method {
        self.mapping.definition.options.shape.method.clone().unwrap_or(Method::POST)
    }
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

/// What is sent to an endpoint: the payload as it is, or the document that carries it.
pub fn body(message: Message<'_>, endpoint: &Endpoint, parameters: &[Parameter]) -> Bytes {
    match endpoint.definition.wire {
        Wire::Messages => document(message, &endpoint.store, parameters),
        Wire::Raw => Bytes::copy_from_slice(message.payload.get().as_bytes()),
    }
}

/// The document that is posted. The members of the payload keep their bytes; `parameters` is always there, always
/// a list, and what is linked to the mapping wins over what the payload brought along.
fn document(message: Message<'_>, store: &str, parameters: &[Parameter]) -> Bytes {
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

fn push_string(text: &mut String, value: &str) {
    // A string always serializes.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

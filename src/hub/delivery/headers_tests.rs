//! The headers of a request.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::flow::circuits::State;
use crate::hub::definitions::documents::PutEndpoint;
use crate::hub::definitions::mapping::{Definition, Mapping};
use crate::hub::definitions::wire_secrets::WireSecrets;
use crate::hub::delivery::request::Message;
use crate::traces::Context;
use axum::http::HeaderName;
use chrono::DateTime;
use secrecy::SecretString;
use serde_json::{Value as Json, json};
use uuid::Uuid;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An endpoint of this definition, whose secrets are these.
fn endpoint(mut members: Json, token: Option<&str>, secrets: &[&str], wire: &Json) -> Endpoint {
    members["url"] = json!("https://e.example");
    let put = PutEndpoint::read(&members).unwrap();
    let wire = WireSecrets::read(Some(&SecretString::from(wire.to_string())));
    let bears = wire.bears(&put.definition).unwrap();
    Endpoint {
        id: 1,
        store_id: 1,
        store: "s1".to_owned(),
        name: "warehouse".to_owned(),
        definition: put.definition,
        token: token.map(SecretString::from),
        signing_secrets: secrets.iter().map(|secret| SecretString::from(*secret)).collect(),
        headers: bears.headers,
        signers: bears.signers,
        wire_secrets: Vec::new(),
        former: Vec::new(),
        version: 1,
        state: State::default(),
    }
}

fn sent(endpoint: &Endpoint, options: &Json, body: &[u8]) -> Result<HeaderMap, String> {
    let document = json!({ "endpoint": "e", "service": "", "messages": ["invoice.*"], "options": options });
    let (definition, enabled) = Definition::read(&document).unwrap();
    let mapping = Mapping {
        id: 1,
        store_id: 1,
        store: "s1".to_owned(),
        name: "m".to_owned(),
        endpoint_id: 1,
        definition,
        enabled,
        version: 1,
    };
    let payload = serde_json::value::to_raw_value(&json!({})).unwrap();
    let url = "https://e.example/hook".parse().unwrap();
    let message = Message { id: Uuid::max(), key: "invoice.created", payload: &payload };
    let now = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
    let trace = Context::parse(TRACE);
    let (delivery, trace) = (Uuid::nil(), trace.as_ref());
    headers(&Sending { endpoint, mapping: &mapping, url: &url, message, delivery, now, trace }, body)
}

#[test]
fn they_carry_token_store_time_and_one_signature_a_secret() {
    let headers =
        sent(&endpoint(json!({}), Some("x123"), &[SECRET, SECRET], &json!({})), &json!({}), b"{}").unwrap();
    for (name, value) in [
        ("x-augury-token", "x123"),
        ("x-hub-token", "x123"),
        ("x-hub-store", "s1"),
        ("x-hub-timestamp", "1614265330"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-id", "00000000-0000-0000-0000-000000000000"),
        ("traceparent", TRACE),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(headers["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
    assert!(!format!("{headers:?}").contains("x123"));
}

#[test]
fn without_token_or_secret_their_headers_are_not_sent() {
    let headers = sent(&endpoint(json!({}), None, &[], &json!({})), &json!({}), b"{}").unwrap();
    for name in ["x-augury-token", "x-hub-token", "webhook-signature"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_token_that_is_no_header_is_not_shown() {
    let error =
        sent(&endpoint(json!({}), Some("a\nb-secret"), &[], &json!({})), &json!({}), b"").unwrap_err();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn the_bare_wire_has_no_header_that_no_definition_names() {
    let bare = endpoint(json!({ "wire": "raw" }), None, &[], &json!({}));
    let headers = sent(&bare, &json!({}), b"{}").unwrap();
    assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    let signed = endpoint(json!({ "wire": "raw" }), None, &[SECRET], &json!({}));
    let headers = sent(&signed, &json!({ "content_type": "text/plain; charset=UTF-8" }), b"{}").unwrap();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "webhook-id", "webhook-signature", "webhook-timestamp"]);
    assert_eq!(headers["content-type"], "text/plain; charset=UTF-8");
}

#[test]
fn those_of_the_mapping_stand_in_the_place_of_those_of_the_endpoint() {
    let definition = json!({
        "headers": {
            "X-Event": "{message}", "X-Id": "{id}", "Authorization": { "secret": "[redacted]" },
        },
        "sign": [{ "kind": "hmac", "header": "X-Signature", "prefix": "sha256=", "secrets": ["[redacted]"] }],
    });
    let secrets = json!({
        "sign": { "x-signature": ["It's a Secret to Everybody"] },
        "headers": { "authorization": "Bearer of-a-secret" },
    });
    let endpoint = endpoint(definition, None, &[], &secrets);
    let options = json!({ "headers": { "x-event": "invoices/create", "X-Other": "{url} {{}}" } });
    let headers = sent(&endpoint, &options, b"Hello, World!").unwrap();
    for (name, value) in [
        ("x-event", "invoices/create"),
        ("x-id", "00000000-0000-0000-0000-000000000000"),
        ("x-other", "https://e.example/hook {}"),
        ("authorization", "Bearer of-a-secret"),
        // The vector that GitHub's documentation has.
        ("x-signature", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers["authorization"].is_sensitive() && !format!("{headers:?}").contains("of-a-secret"));
}

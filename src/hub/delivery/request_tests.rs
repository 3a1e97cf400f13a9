//! The bytes of a service request.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::flow::circuit::Breaker;
use crate::flow::circuits::State;
use crate::hub::definitions::endpoint::Definition;
use secrecy::SecretString;
use std::time::Duration;

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

fn parameter(name: &str, value: &str) -> Parameter {
    Parameter { name: name.to_owned(), value: raw(value), secret: false, former: Vec::new() }
}

fn sent(payload: &str, parameters: &[Parameter]) -> String {
    let payload = raw(payload);
    let message = Message { id: Uuid::nil(), key: "order:new", payload: &payload };
    let body = body(message, "s1", parameters);
    String::from_utf8(body.to_vec()).unwrap()
}

const HEAD: &str = r#"{"message":"order:new","message_id":"00000000-0000-0000-0000-000000000000","store_id":"s1","payload":"#;

#[test]
fn the_members_of_the_payload_keep_their_bytes() {
    let payload = "{ \"b\" : 1.0,\n \"\\u0061\":{\"x\" : [ ], \"n\":1e400, \"s\":\"\\u00e9\\/\" },\"b\":12345678901234567890123 }";
    let expected = format!(
        "{HEAD}{{\"b\":1.0,\"\\u0061\":{{\"x\" : [ ], \"n\":1e400, \"s\":\"\\u00e9\\/\" }},\"b\":12345678901234567890123,\"parameters\":[]}}}}"
    );
    assert_eq!(sent(payload, &[]), expected);
}

#[test]
fn the_payload_is_an_object_and_the_parameters_a_list_even_when_there_are_none() {
    assert_eq!(sent("{}", &[]), format!("{HEAD}{{\"parameters\":[]}}}}"));
    let list = r#"[ {"standard":"UPS Next Day"} ]"#;
    let parameters = [parameter("api_key", "\"12\\\"34\""), parameter("lookup", list)];
    assert_eq!(
        sent("{}", &parameters),
        format!(
            r#"{HEAD}{{"parameters":[{{"name":"api_key","value":"12\"34"}},{{"name":"lookup","value":{list}}}]}}}}"#
        )
    );
}

#[test]
fn what_is_linked_overrides_what_was_pushed_name_by_name() {
    let expected = format!(
        r#"{HEAD}{{"order":{{}},"parameters":[{{"name":"mine","value":[1]}},{{"name":"api_key","value":"ours"}}]}}}}"#
    );
    let linked = [parameter("api_key", "\"ours\"")];
    for pushed in [
        r#"[{"name":"api_key","value":"theirs"},{"name":"mine","value":[1]}]"#,
        r#"{"api_key":"theirs","mine":[1]}"#,
    ] {
        for key in ["parameters", r"p\u0061rameters"] {
            assert_eq!(sent(&format!(r#"{{"order":{{}},"{key}":{pushed}}}"#), &linked), expected);
        }
    }
    assert_eq!(sent(r#"{"parameters":7}"#, &[]), format!("{HEAD}{{\"parameters\":[]}}}}"));
}

#[test]
fn a_service_is_a_path_below_the_endpoint_whose_query_stays() {
    for (base, service, expected) in [
        ("https://e.example", "ship", "https://e.example/ship"),
        ("https://e.example/", "/ship", "https://e.example/ship"),
        ("https://e.example/v1/", "ship/now", "https://e.example/v1/ship/now"),
        ("https://e.example/v1?key=1", "ship", "https://e.example/v1/ship?key=1"),
        ("https://e.example/v1?key=1", "ship?a=b", "https://e.example/v1/ship?key=1&a=b"),
        ("https://e.example/v1", "", "https://e.example/v1"),
        ("https://e.example/v1#x", "a b", "https://e.example/v1/a%20b"),
    ] {
        assert_eq!(url(&base.parse().unwrap(), service).as_str(), expected, "{base} {service}");
    }
}

fn endpoint(token: Option<&str>, secrets: &[&str]) -> Endpoint {
    Endpoint {
        id: 1,
        store_id: 1,
        store: "s1".to_owned(),
        name: "warehouse".to_owned(),
        definition: Definition {
            url: "https://e.example".parse().unwrap(),
            concurrency: 8,
            rate: None,
            timeout: Duration::from_mins(3),
            breaker: Breaker { failures: 5, cooldown: Duration::from_secs(30) },
            enabled: true,
        },
        token: token.map(SecretString::from),
        signing_secrets: secrets.iter().map(|secret| SecretString::from(*secret)).collect(),
        former: Vec::new(),
        version: 1,
        state: State::default(),
    }
}

#[test]
fn the_headers_carry_token_store_time_and_one_signature_a_secret() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let headers =
        headers(&endpoint(Some("x123"), &[secret, secret]), Uuid::nil(), 1_614_265_330, b"{}").unwrap();
    for (name, value) in [
        ("x-augury-token", "x123"),
        ("x-hub-token", "x123"),
        ("x-hub-store", "s1"),
        ("x-hub-timestamp", "1614265330"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-id", "00000000-0000-0000-0000-000000000000"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(headers["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
    assert!(!format!("{headers:?}").contains("x123"));
}

#[test]
fn without_token_or_secret_their_headers_are_not_sent() {
    let headers = headers(&endpoint(None, &[]), Uuid::nil(), 0, b"{}").unwrap();
    for name in ["x-augury-token", "x-hub-token", "webhook-signature"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_token_that_is_no_header_is_not_shown() {
    let error = super::headers(&endpoint(Some("a\nb-secret"), &[]), Uuid::nil(), 0, b"").unwrap_err();
    assert!(!error.contains("secret"), "{error}");
}

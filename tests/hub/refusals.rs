//! What is wrong with a webhook's definition is said of the member that it is about, with the rule that it breaks.

use super::customers::put;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use serde_json::{Value, json};

const URL: &str = "http://127.0.0.1:9";
const SECRET: &str = "a secret of it";
const CHARACTERS: &str = "visible ASCII characters and spaces";

/// A definition with these members.
fn with(members: Value) -> Value {
    extended(json!({ "url": URL }), members)
}

fn extended(mut object: Value, members: Value) -> Value {
    if let (Some(object), Value::Object(members)) = (object.as_object_mut(), members) {
        object.extend(members);
    }
    object
}

fn hmac(members: Value) -> Value {
    json!({ "sign": [extended(json!({ "kind": "hmac", "header": "X-S", "secrets": [SECRET] }), members)] })
}

fn jwt(members: Value) -> Value {
    let sign = json!({ "kind": "jwt", "header": "X-T", "alg": "HS256", "secrets": [SECRET] });
    json!({ "sign": [extended(sign, members)] })
}

fn header(value: Value) -> Value {
    let mut headers = json!({ "headers": {} });
    headers["headers"]["X-A"] = value;
    headers
}

/// Bad definitions: the members, the place that is to be named, the keyword, and words of the rule.
fn bad() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    let long = "x".repeat(1001);
    vec![
        (
            json!({ "url": format!("http://e/{}", "x".repeat(2000)) }),
            "/url",
            "maxLength",
            "at most 2000 bytes",
        ),
        (json!({ "url": "e.example/hooks" }), "/url", "url", "must be a URL"),
        (json!({ "url": "ftp://e.example" }), "/url", "url", "begin with https:// or http://"),
        (json!({ "url": "http://ann:pw@e.example" }), "/url", "url", "user name"),
        (json!({ "url": "http://e.example/#x" }), "/url", "url", "fragment"),
        (json!({ "token": "a\r\nb" }), "/token", "token", "visible ASCII"),
        (json!({ "token": " a" }), "/token", "token", "ends"),
        (json!({ "token": "x".repeat(2001) }), "/token", "maxLength", "at most 2000 bytes"),
        (json!({ "token": "" }), "/token", "type", "not empty"),
        (header(json!("a\r\nb")), "/headers/X-A", "pattern", CHARACTERS),
        (header(json!("a\nX-B: c")), "/headers/X-A", "pattern", CHARACTERS),
        (header(json!("é")), "/headers/X-A", "pattern", CHARACTERS),
        (header(json!(" a")), "/headers/X-A", "pattern", "ends"),
        (header(json!(long)), "/headers/X-A", "maxLength", "at most 1000 bytes"),
        (header(json!("{body}")), "/headers/X-A", "template", "{body_sha256}"),
        (header(json!("{mesage}")), "/headers/X-A", "template", "places are"),
        (header(json!("{message")), "/headers/X-A", "template", "brace"),
        (header(json!("{body_sha256}{body_sha256}")), "/headers/X-A", "template", "once at most"),
        (header(json!(5)), "/headers/X-A", "type", "must be a text, or {\"secret\""),
        (header(json!({ "secret": "short" })), "/headers/X-A/secret", "pattern", "8 to 8192 bytes"),
        (
            header(json!({ "secret": "a secret\r\nX-B: c" })),
            "/headers/X-A/secret",
            "pattern",
            "visible ASCII",
        ),
        (header(json!({ "secret": "a secret ", })), "/headers/X-A/secret", "pattern", "ends"),
        (header(json!({ "secret": SECRET, "x": 1 })), "/headers/X-A", "type", "{\"secret\""),
        (header(json!("[redacted]")), "/headers/X-A", "secret", "{\"secret\": \"[redacted]\"}"),
        (header(json!({ "secret": "[redacted]" })), "/headers/X-A/secret", "secret", "no stored secret"),
        (json!({ "headers": ["X-A"] }), "/headers", "type", "object"),
        (json!({ "headers": { "X A": "b" } }), "/headers/X A", "header", "name of a header"),
        (hmac(json!({ "prefix": "a\r\n" })), "/sign/0/prefix", "pattern", CHARACTERS),
        (hmac(json!({ "start": long })), "/sign/0/start", "maxLength", "at most 1000 bytes"),
        (hmac(json!({ "separator": "\n" })), "/sign/0/separator", "pattern", CHARACTERS),
        (hmac(json!({ "separator": "{id}" })), "/sign/0/separator", "template", "without places"),
        (hmac(json!({ "over": long })), "/sign/0/over", "maxLength", "at most 1000 bytes"),
        (hmac(json!({ "over": "{body}{body}" })), "/sign/0/over", "template", "once at most"),
        (hmac(json!({ "secrets": ["short"] })), "/sign/0/secrets/0", "pattern", "8 to 8192 bytes"),
        (hmac(json!({ "secrets": "a secret of it" })), "/sign/0/secrets", "type", "list"),
        (hmac(json!({ "secrets": ["a secret\u{0}of it"] })), "/sign/0/secrets/0", "pattern", "U+0000"),
        (
            hmac(json!({ "secrets": ["not hex at all"], "secret_encoding": "hex" })),
            "/sign/0/secrets/0",
            "key",
            "secret_encoding",
        ),
        (hmac(json!({ "header": "Content-Length" })), "/sign/0/header", "header", "request itself"),
        (hmac(json!({ "alg": "RS256" })), "/sign/0/alg", "kind", "jwt"),
        (jwt(json!({ "over": "{body}" })), "/sign/0/over", "kind", "hmac"),
        (jwt(json!({ "claims": { "x": long } })), "/sign/0/claims/x", "maxLength", "at most 1000 bytes"),
        (jwt(json!({ "claims": { "x": [] } })), "/sign/0/claims/x", "type", "text, a number"),
        (jwt(json!({ "lifetime": "2d" })), "/sign/0/lifetime", "range", "between 1s and 1day"),
        (json!({ "events": "a.*" }), "/events", "type", "list"),
        (json!({ "events": ["a*"] }), "/events/0", "pattern", "invoice.*"),
        (json!({ "disable": true }), "/disable", "type", "object"),
        (json!({ "disable": { "failures": 0 } }), "/disable/failures", "range", "1"),
        (json!({ "disable": { "after": "400d" } }), "/disable/after", "range", "between 1ms and"),
        (
            json!({ "disable": { "failures": 1, "for": "5d" } }),
            "/disable/for",
            "additionalProperties",
            "not known",
        ),
        (
            json!({ "events": ["a"], "options": { "headers": { "X-A": "a\r\nb" } } }),
            "/options/headers/X-A",
            "pattern",
            CHARACTERS,
        ),
        (
            json!({ "events": ["a"], "options": { "headers": { "X-A": "[redacted]" } } }),
            "/options/headers/X-A",
            "secret",
            "stand-in",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_definition_is_told_its_member_and_the_rule_that_it_breaks() {
    let app = TestApp::start().await;
    let mut wrong = Vec::new();
    for (members, pointer, keyword, words) in bad() {
        let definition = with(members);
        let problem = refusal(app.put(&put("endpoints/e"), &definition).await, 422).await;
        let told = problem["errors"].as_array().unwrap();
        let [one] = &**told else {
            wrong.push(format!("{pointer}: {told:?}"));
            continue;
        };
        let (at, rule, said) = (
            one["pointer"].as_str().unwrap(),
            one["keyword"].as_str().unwrap(),
            one["message"].as_str().unwrap(),
        );
        if (at, rule) != (pointer, keyword) || !said.contains(words) {
            wrong.push(format!("{pointer} {keyword} {words}: {one}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_does_not_become_the_stand_in_that_was_shown_for_it() {
    let app = TestApp::start().await;
    app.parameter("api_key", json!("a password"), "password").await;
    for body in [
        json!({ "value": "[redacted]" }),
        json!({ "value": "[redacted]", "data_type": "string" }),
        json!({ "value": ["[redacted]"], "data_type": "list" }),
    ] {
        let problem = refusal(app.put(&put("parameters/api_key"), &body).await, 422).await;
        assert_eq!(problem["errors"][0]["pointer"], "/value", "{problem}");
    }
    let shown = json(app.get(&put("parameters/api_key")).await, 200).await;
    json(app.put(&put("parameters/api_key"), &shown).await, 200).await;
    app.stop().await;
}

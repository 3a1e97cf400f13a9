//! Endpoints, mappings and parameters: what can be put, what comes back, and what is kept secret.

use super::stage::STORE;
use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use crate::support::scripted::Scripted;
use serde_json::{Value, json};

const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn put(path: &str) -> String {
    format!("{STORE}/{path}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_comes_back_without_its_secrets_and_can_be_put_back() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let mut definition = json!({
        "url": endpoint.url, "token": "x-token-123", "signing_secrets": [FIRST], "concurrency": 8,
        "rate": { "per_second": 1000.5, "burst": 20 }, "timeout": "180s",
        "breaker": { "failures": 5, "cooldown": "30s" }, "enabled": true,
    });
    let made = text(app.put(&put("endpoints/warehouse"), &definition).await, 201).await;
    definition["token"] = json!("[redacted]");
    definition["signing_secrets"] = json!(["[redacted]"]);
    assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), definition);
    let mut read = json(app.get(&put("endpoints/warehouse")).await, 200).await;
    assert_eq!(read["state"]["failures"], 0, "{read}");
    read.as_object_mut().unwrap().remove("state");
    assert_eq!(read, definition);
    let listed = json(app.get(&put("endpoints")).await, 200).await;
    assert_eq!((&listed[0]["name"], &listed[0]["definition"]), (&json!("warehouse"), &definition));
    assert_eq!((&listed[0]["failures"], &listed[0]["open_until"]), (&json!(0), &json!(null)));

    // What is shown stands for what is stored; a rotation adds one beside it.
    definition["signing_secrets"] = json!(["[redacted]", SECOND]);
    json(app.put(&put("endpoints/warehouse"), &definition).await, 200).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let asked = endpoint.asked();
    assert_eq!(asked[0].header("x-hub-token"), Some("x-token-123"));
    assert_eq!(asked[0].header("webhook-signature").unwrap().split(' ').count(), 2);

    // Absent, they are gone; then there is nothing to keep.
    json(app.put(&put("endpoints/warehouse"), &json!({ "url": endpoint.url })).await, 200).await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let asked = endpoint.asked();
    assert_eq!((asked[1].header("x-hub-token"), asked[1].header("webhook-signature")), (None, None));
    let problem = refusal(app.put(&put("endpoints/warehouse"), &definition).await, 422).await;
    assert_eq!(violations(&problem), [("/token", "secret")]);
    let kept = json!({ "url": endpoint.url, "signing_secrets": [FIRST, "[redacted]"] });
    let problem = refusal(app.put(&put("endpoints/warehouse"), &kept).await, 422).await;
    assert_eq!(violations(&problem), [("/signing_secrets/1", "secret")]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_in_the_database_in_clear() {
    let app = TestApp::start().await;
    let definition =
        json!({ "url": "http://127.0.0.1:9", "token": "hush-token", "signing_secrets": [FIRST] });
    json(app.put(&put("endpoints/e"), &definition).await, 201).await;
    let password = json!({ "value": "hush-password", "data_type": "password" });
    json(app.put(&put("parameters/p"), &password).await, 201).await;
    let mut db = app.connect().await;
    let rows = "SELECT e::text || p::text || encode(e.token, 'escape') || encode(e.secrets, 'escape') || encode(p.sealed, 'escape')
        FROM endpoints AS e, parameters AS p";
    let stored: String = sqlx::Row::get(&sqlx::query(rows).fetch_one(&mut db).await.unwrap(), 0);
    assert!(!stored.contains("hush") && !stored.contains("MfKQ9"), "{stored}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_no_secret_is_taken_and_everything_else_is() {
    let app = TestApp::with(&[("POSTRIDER_SECRET_KEY", "")], |app| app).await;
    let url = "http://127.0.0.1:9";
    refusal(app.put(&put("endpoints/e"), &json!({ "url": url, "token": "t" })).await, 503).await;
    refusal(app.put(&put("endpoints/e"), &json!({ "url": url, "signing_secrets": [FIRST] })).await, 503)
        .await;
    let password = json!({ "value": "x", "data_type": "password" });
    refusal(app.put(&put("parameters/p"), &password).await, 503).await;
    json(app.put(&put("endpoints/e"), &json!({ "url": url })).await, 201).await;
    json(app.put(&put("parameters/p"), &json!({ "value": "x" })).await, 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_breaks_a_rule_is_refused_with_every_violation() {
    let app = TestApp::start().await;
    let problem = refusal(
        app.put(
            &put("endpoints/e"),
            &json!({
                "url": "ftp://hush", "token": "hu\nsh", "signing_secrets": ["hush", FIRST], "concurrency": 0,
                "rate": { "per_second": 0, "burst": 0, "hush": 1 }, "timeout": "0s",
                "breaker": { "failures": 0, "cooldown": "soon" }, "enabled": "hush", "hush": 1,
            }),
        )
        .await,
        422,
    )
    .await;
    let expected = [
        ("/breaker/cooldown", "duration"),
        ("/breaker/failures", "range"),
        ("/concurrency", "range"),
        ("/enabled", "type"),
        ("/hush", "additionalProperties"),
        ("/rate/burst", "range"),
        ("/rate/hush", "additionalProperties"),
        ("/rate/per_second", "range"),
        ("/signing_secrets/0", "pattern"),
        ("/timeout", "range"),
        ("/token", "token"),
        ("/url", "url"),
    ];
    assert_eq!(violations(&problem), expected);
    assert!(
        problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .all(|error| !error["message"].to_string().contains("hush"))
    );
    for url in [
        "http://10.0.0.1",
        "http://169.254.169.254/latest",
        "http://[::1]",
        "http://2130706434.0x7f/",
        "https://a:b@example.com",
        "http://0x0a000001/",
        "https://example.com/#x",
        "example.com",
        "",
        "http://[::ffff:10.0.0.1]/",
    ] {
        let problem = refusal(app.put(&put("endpoints/e"), &json!({ "url": url })).await, 422).await;
        assert_eq!(violations(&problem)[0].0, "/url", "{url}");
    }
    refusal(app.get(&put("endpoints/e")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_comes_back_as_it_was_put() {
    let app = TestApp::start().await;
    app.endpoint("warehouse", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    let definition = r#"{"endpoint":"warehouse","service":"drop_ship","messages":["order:new"],"parameters":["api_key"],
        "filters":[{"path":"payload.order.total","operator":"gt","value":10.0}],"identifiers":{"order_number":"payload.order.number"},
        "options":{"ack":"strict","retries_allowed":true,"max_attempts":null,"max_age":null,"retry":{"base":"5s","cap":"1h"},"serial":false,"allow_responses":null},
        "schedule":{"every":"5m","message":"orders:poll"},"enabled":true}"#;
    let request = app.request(reqwest::Method::PUT, &put("mappings/ship"));
    let request = request.header("content-type", "application/json").body(definition);
    assert_eq!(text(request.send().await.unwrap(), 201).await, definition);
    let read = text(app.get(&put("mappings/ship")).await, 200).await;
    let state = read.strip_prefix(&definition[..definition.len() - 1]).unwrap();
    assert!(state.starts_with(r#","state":{"next_tick":""#), "{state}");
    let listed = json(app.get(&put("mappings")).await, 200).await;
    let first = listed[0]["next_tick"].as_str().unwrap().to_owned();

    // Its schedule goes on while it stays what it is; switched off, it does not fire.
    let mut changed: Value = serde_json::from_str(definition).unwrap();
    changed["service"] = json!("other");
    json(app.put(&put("mappings/ship"), &changed).await, 200).await;
    let tick = async || json(app.get(&put("mappings")).await, 200).await[0]["next_tick"].clone();
    assert_eq!(tick().await, first);
    changed["schedule"]["every"] = json!("6m");
    json(app.put(&put("mappings/ship"), &changed).await, 200).await;
    assert!(tick().await.as_str().unwrap() > first.as_str());
    changed["enabled"] = json!(false);
    json(app.put(&put("mappings/ship"), &changed).await, 200).await;
    assert_eq!(tick().await, json!(null));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_breaks_a_rule_is_refused_with_every_violation() {
    let app = TestApp::start().await;
    app.endpoint("e", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    let problem = refusal(
        app.put(&put("mappings/m"), &json!({
            "service": "../hush", "messages": ["or der", "order:new", 7], "parameters": ["", "fine"],
            "filters": [{ "path": "hush", "operator": "match", "value": "(" }],
            "identifiers": { "a/b": "hush" }, "enabled": 1, "hush": true,
            "options": {
                "ack": "hush", "retries_allowed": 1, "max_attempts": 0, "max_age": "0s", "serial": "hush",
                "retry": { "base": "2s", "cap": "1s" }, "allow_responses": ["hu/sh"], "timeout": "2h", "hush": 1,
            },
            "schedule": { "every": "soon", "message": "hu/sh" },
        }))
        .await,
        422,
    )
    .await;
    let expected = [
        ("", "required"),
        ("/enabled", "type"),
        ("/filters/0/path", "path"),
        ("/filters/0/value", "regex"),
        ("/hush", "additionalProperties"),
        ("/identifiers/a~1b", "path"),
        ("/messages/0", "pattern"),
        ("/messages/2", "pattern"),
        ("/options/ack", "enum"),
        ("/options/allow_responses/0", "pattern"),
        ("/options/hush", "additionalProperties"),
        ("/options/max_age", "range"),
        ("/options/max_attempts", "range"),
        ("/options/retries_allowed", "type"),
        ("/options/retry/cap", "minimum"),
        ("/options/serial", "path"),
        ("/options/timeout", "range"),
        ("/parameters/0", "word"),
        ("/schedule/every", "duration"),
        ("/schedule/message", "pattern"),
        ("/service", "service"),
    ];
    assert_eq!(violations(&problem), expected);
    assert!(
        problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .all(|error| !error["message"].to_string().contains("hush"))
    );
    for (definition, place) in [
        (json!({ "endpoint": "none", "service": "s", "messages": ["a:b"] }), ("/endpoint", "endpoint")),
        (json!({ "endpoint": "e", "service": "s" }), ("/messages", "minItems")),
        (json!({ "endpoint": "e", "service": "a/%2E%2e/b", "messages": ["a:b"] }), ("/service", "service")),
        (json!({ "endpoint": "e", "service": "a b", "messages": ["a:b"] }), ("/service", "service")),
        (json!([]), ("", "type")),
    ] {
        let problem = refusal(app.put(&put("mappings/m"), &definition).await, 422).await;
        assert_eq!(violations(&problem), [place], "{definition}");
    }
    refusal(app.get(&put("mappings/m")).await, 404).await;
    let off = json!({ "endpoint": "e", "service": "s", "enabled": false });
    json(app.put(&put("mappings/m"), &off).await, 201).await;
    let polled = json!({ "endpoint": "e", "service": "s", "schedule": { "cron": "0 6 * * *", "message": "orders:poll" } });
    json(app.put(&put("mappings/polled"), &polled).await, 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_is_of_its_type_and_a_password_is_never_shown_again() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let values = [
        ("text", json!({ "value": "x" }), "string"),
        ("whole", json!({ "value": 5 }), "integer"),
        ("part", json!({ "value": 5, "data_type": "float" }), "float"),
        ("flag", json!({ "value": false }), "boolean"),
        (
            "lookup",
            json!({ "value": [{ "standard": "UPS", "amazon": "Express" }], "data_type": "list" }),
            "list",
        ),
        ("a b.c/d", json!({ "value": "x" }), "string"),
    ];
    for (name, body, data_type) in &values {
        let path = put(&format!("parameters/{}", name.replace('/', "%2F").replace(' ', "%20")));
        let shown = json!({ "value": body["value"], "data_type": data_type });
        assert_eq!(json(app.put(&path, body).await, 201).await, shown);
        assert_eq!(json(app.put(&path, body).await, 200).await, shown);
        let mut read = json(app.get(&path).await, 200).await;
        assert!(read.as_object_mut().unwrap().remove("state").unwrap()["updated_at"].is_string());
        assert_eq!(read, shown);
    }
    let shown = json!({ "value": "[redacted]", "data_type": "password" });
    refusal(app.put(&put("parameters/key"), &shown).await, 422).await;
    let password = json!({ "value": "hush-1234", "data_type": "password" });
    assert_eq!(json(app.put(&put("parameters/key"), &password).await, 201).await, shown);
    assert_eq!(json(app.put(&put("parameters/key"), &shown).await, 200).await, shown);
    let mut read = json(app.get(&put("parameters/key")).await, 200).await;
    read.as_object_mut().unwrap().remove("state");
    assert_eq!(read, shown);
    let listed = text(app.get(&put("parameters")).await, 200).await;
    assert!(!listed.contains("hush"), "{listed}");
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().len(), 7);

    // It is sent nevertheless.
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:*"], json!({ "parameters": ["key", "lookup", "none"] })).await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    let sent = json!([
        { "name": "key", "value": "hush-1234" },
        { "name": "lookup", "value": [{ "standard": "UPS", "amazon": "Express" }] },
    ]);
    assert_eq!(endpoint.asked()[0].json()["payload"]["parameters"], sent);

    assert_eq!(app.delete(&put("parameters/key")).await.status(), 204);
    refusal(app.delete(&put("parameters/key")).await, 404).await;
    refusal(app.get(&put("parameters/key")).await, 404).await;
    for (body, place) in [
        (json!({}), ("", "required")),
        (json!({ "value": null }), ("", "required")),
        (json!({ "value": {} }), ("/value", "type")),
        (json!({ "value": "5", "data_type": "integer" }), ("/value", "type")),
        (json!({ "value": 5.5, "data_type": "integer" }), ("/value", "type")),
        (json!({ "value": 5, "data_type": "password" }), ("/value", "type")),
        (json!({ "value": "", "data_type": "password" }), ("/value", "type")),
        (json!({ "value": 5, "data_type": "number" }), ("/data_type", "enum")),
        (json!({ "value": 5, "type": "integer" }), ("/type", "additionalProperties")),
    ] {
        let problem = refusal(app.put(&put("parameters/p"), &body).await, 422).await;
        assert_eq!(violations(&problem), [place], "{body}");
    }
    for name in ["%00", "%20a", "a%0A", &"p".repeat(101)] {
        refusal(app.put(&put(&format!("parameters/{name}")), &json!({ "value": 1 })).await, 422).await;
        refusal(app.get(&put(&format!("parameters/{name}"))).await, 404).await;
        refusal(app.delete(&put(&format!("parameters/{name}"))).await, 404).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_would_be_a_trap_is_refused() {
    let app = TestApp::start().await;
    app.endpoint("e", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    let endpoint = json!({ "url": "http://127.0.0.1:9" });
    let mapping = json!({ "endpoint": "e", "service": "s", "messages": ["a:b"] });
    for bad in ["-a", "_a", ".a", "a%20b", "a%2Fb", "a%00", "%C3%A4", "a:b", &"q".repeat(101)] {
        for (kind, body) in [("endpoints", &endpoint), ("mappings", &mapping)] {
            let path = put(&format!("{kind}/{bad}"));
            let problem = refusal(app.put(&path, body).await, 422).await;
            assert_eq!(violations(&problem), [("/name", "pattern")], "{path}");
            refusal(app.get(&path).await, 404).await;
            refusal(app.delete(&path).await, 404).await;
        }
        refusal(app.post(&put(&format!("endpoints/{bad}/check")), &json!({})).await, 404).await;
    }
    app.stop().await;
}

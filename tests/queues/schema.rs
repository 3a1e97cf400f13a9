//! Messages against the queue's schema: every violation with its place, and never a submitted value.

use crate::support::answer::{refusal, violations};
use crate::support::app::TestApp;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_is_told_with_its_place_and_without_the_value() {
    let app = TestApp::start().await;
    let schema = json!({
        "type": "object",
        "required": ["hello", "world"],
        "additionalProperties": false,
        "properties": {
            "hello": { "type": "string" },
            "list": { "items": { "type": "integer", "minimum": 3 } },
            "a/b~c": { "enum": ["x"] },
        }
    });
    app.define("q", json!({ "incoming": { "schema": schema } })).await;
    let bad = json!({
        "hello": 4711, "list": [5, 1, "s3cr3t", 2], "a/b~c": "s3cr3t", "extra": { "password": "s3cr3t" }
    });
    let response = app.post("/queues/q/messages", &bad).await;
    let problem = refusal(response, 422).await;
    let expected = [
        ("", "required"),
        ("/a~1b~0c", "enum"),
        ("/extra", "additionalProperties"),
        ("/hello", "type"),
        ("/list/1", "minimum"),
        ("/list/2", "type"),
        ("/list/3", "minimum"),
    ];
    assert_eq!(violations(&problem), expected);
    let told = problem.to_string();
    assert!(!told.contains("s3cr3t") && !told.contains("4711"), "{told}");
    for error in problem["errors"].as_array().unwrap() {
        assert_eq!(error.as_object().unwrap().len(), 3);
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_violations_ends_at_fifty() {
    let app = TestApp::start().await;
    app.define("q", json!({ "incoming": { "schema": { "items": { "type": "string" } } } })).await;
    for (wrong, told) in [(1, 1), (50, 50), (51, 50), (5000, 50)] {
        let problem = refusal(app.post("/queues/q/messages", &json!(vec![1; wrong])).await, 422).await;
        assert_eq!(problem["errors"].as_array().unwrap().len(), told, "of {wrong}");
    }
    let large = vec![vec![1; 40]; 10];
    let problem = refusal(app.post("/queues/q/messages:batch?atomic=true", &json!(large)).await, 422).await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 50);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_json_value_may_be_a_message_and_the_schema_alone_judges_it() {
    let app = TestApp::start().await;
    let values = [json!(null), json!(true), json!(0), json!(""), json!([]), json!({})];
    let post =
        async |value: &serde_json::Value| app.post("/queues/q/messages", value).await.status().as_u16();
    for definition in
        [json!({}), json!({ "incoming": { "schema": {} } }), json!({ "incoming": { "schema": true } })]
    {
        app.define("q", definition).await;
        for value in &values {
            assert_eq!(post(value).await, 201, "{value}");
        }
    }
    app.define("q", json!({ "incoming": { "schema": false } })).await;
    for value in &values {
        assert_eq!(post(value).await, 422, "{value}");
    }
    app.define("q", json!({ "incoming": { "schema": { "type": "null" } } })).await;
    for value in &values {
        assert_eq!(post(value).await, if value.is_null() { 201 } else { 422 }, "{value}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialect_is_the_schemas_own_or_draft_07() {
    let app = TestApp::start().await;
    // A tuple is `items` in draft-07 and `prefixItems` in 2020-12.
    let draft_07 = json!({ "items": [{ "type": "string" }], "prefixItems": [{ "type": "integer" }] });
    let mut latest = json!({ "prefixItems": [{ "type": "integer" }] });
    latest["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    for (schema, good, bad) in [(draft_07, json!(["x"]), json!([1])), (latest, json!([1]), json!(["x"]))] {
        app.define("q", json!({ "incoming": { "schema": schema } })).await;
        assert_eq!(app.post("/queues/q/messages", &good).await.status(), 201, "{schema}");
        refusal(app.post("/queues/q/messages", &bad).await, 422).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_numbers_are_judged_without_losing_them() {
    let app = TestApp::start().await;
    app.define("q", json!({ "incoming": { "schema": { "type": "number", "maximum": 1e30 } } })).await;
    for (text, status) in [("12345678901234567890123", 201), ("1.0", 201), ("1e31", 422), ("\"1\"", 422)] {
        assert_eq!(app.push_text("q", text).await.status(), status, "{text}");
    }
    app.stop().await;
}

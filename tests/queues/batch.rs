//! Many messages in one request: which are stored, and that each is kept as it was sent.

use super::messages::PECULIAR;
use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use serde_json::{Value, json};

async fn batch(app: &TestApp, path: &str, text: &str) -> reqwest::Response {
    let request = app.request(axum::http::Method::POST, &format!("/queues/q/messages:batch{path}"));
    request.header("content-type", "application/json").body(text.to_owned()).send().await.unwrap()
}

async fn stored(app: &TestApp) -> usize {
    json(app.get("/queues/q/messages?limit=500").await, 200).await["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_batch_is_stored_as_it_was_sent() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let answer = text(batch(&app, "", &format!("[ {} ]", PECULIAR.join(" , "))).await, 201).await;
    let answer: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer.len(), PECULIAR.len());
    for (pushed, sent) in answer.iter().zip(PECULIAR) {
        assert_eq!(pushed.as_object().unwrap().len(), 1, "{pushed}");
        let id = pushed["id"].as_str().unwrap();
        let read = text(app.get(&format!("/queues/q/messages/{id}")).await, 200).await;
        assert_eq!(
            read,
            format!(
                r#"{{"id":"{id}","queue":"q","status":"PENDING","request":{sent},"result":null,"error":null}}"#
            )
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_valid_messages_are_stored_and_the_others_told_apart() {
    let app = TestApp::start().await;
    let schema = json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "integer" } } });
    app.define("q", json!({ "incoming": { "schema": schema } })).await;
    let mixed = r#"[{"a":1}, {"a":"x"}, 7, {"a":2}, {}]"#;
    let answer = json(batch(&app, "", mixed).await, 201).await;
    let kinds: Vec<bool> = answer.as_array().unwrap().iter().map(|item| item.get("id").is_some()).collect();
    assert_eq!(kinds, [true, false, false, true, false]);
    assert_eq!(violations(&answer[1]), [("/a", "type")]);
    assert_eq!(violations(&answer[2]), [("", "type")]);
    assert_eq!(violations(&answer[4]), [("", "required")]);
    assert_eq!(stored(&app).await, 2);

    let none = json(batch(&app, "?atomic=false", "[7, 8]").await, 201).await;
    assert!(none.as_array().unwrap().iter().all(|item| item.get("errors").is_some()), "{none}");
    let problem = refusal(batch(&app, "?atomic=true", mixed).await, 422).await;
    assert_eq!(violations(&problem), [("/1/a", "type"), ("/2", "type"), ("/4", "required")]);
    assert_eq!(stored(&app).await, 2, "all or none");
    json(batch(&app, "?atomic=true", r#"[{"a":3},{"a":4}]"#).await, 201).await;
    assert_eq!(stored(&app).await, 4);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_1_to_1000_messages() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    for refused in ["[]", "{}", "1", "null", r#"{"0":1}"#, &many(1001)] {
        refusal(batch(&app, "", refused).await, 400).await;
    }
    for option in ["?atomic=yes", "?atomic=", "?delay=soon", "?priority=101"] {
        refusal(batch(&app, option, "[1]").await, 400).await;
    }
    let answer = json(batch(&app, "", &many(1000)).await, 201).await;
    assert_eq!(answer.as_array().unwrap().len(), 1000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_claimed_in_its_order_and_its_options_are_for_all() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    json(batch(&app, "", "[1,2,3]").await, 201).await;
    json(batch(&app, "?priority=5", "[4,5]").await, 201).await;
    json(batch(&app, "?delay=1h", "[6]").await, 201).await;
    let claimed = json(app.post("/queues/q/claim?max=100", &json!(null)).await, 200).await;
    let order: Vec<&Value> = claimed.as_array().unwrap().iter().map(|message| &message["request"]).collect();
    assert_eq!(order, [4, 5, 1, 2, 3]);
    app.stop().await;
}

//! `options.unique` as administrators put it, and what becomes of held values when they put another.

use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use serde_json::{Value, json};

async fn define(app: &TestApp, rule: Value) {
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "unique": rule } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let options = json!({
        "retention": "24h", "unique": { "key": "order", "while": "25h", "conflict": "merge", "until": "ended" }
    });
    let problem = refusal(app.put("/queues/q", &json!({ "options": options })).await, 422).await;
    let expected = [
        ("/options/unique/conflict", "enum"),
        ("/options/unique/key", "pointer"),
        ("/options/unique/until", "additionalProperties"),
        ("/options/unique/while", "range"),
    ];
    assert_eq!(violations(&problem), expected);
    refusal(app.put("/queues/q", &json!({ "options": { "unique": null } })).await, 422).await;
    define(&app, json!({ "key": "/order/id", "while": "24h", "conflict": "reject" })).await;
    let read = json(app.get("/queues/q").await, 200).await;
    assert_eq!(
        read["options"]["unique"],
        json!({ "key": "/order/id", "while": "24h", "conflict": "reject" })
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_that_is_in_force_when_a_push_comes_judges_what_is_held() {
    let app = TestApp::start().await;
    let push = async |body: Value, status: u16| {
        json(app.post("/queues/q/messages", &body).await, status).await["id"].as_str().unwrap().to_owned()
    };
    define(&app, json!({ "key": "/a", "while": "waiting" })).await;
    let first = push(json!({ "a": 1, "b": 1 }), 201).await;
    json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    // It runs: by the next rule it holds its value still.
    define(&app, json!({ "key": "/a", "while": "unfinished" })).await;
    assert_eq!(push(json!({ "a": 1 }), 200).await, first);
    define(&app, json!({ "key": "/a", "while": "1h", "conflict": "existing" })).await;
    assert_eq!(push(json!({ "a": 1 }), 200).await, first);
    define(&app, json!({ "key": "/a", "while": "waiting", "conflict": "reject" })).await;
    let second = push(json!({ "a": 1, "b": 1 }), 201).await;
    refusal(app.post("/queues/q/messages", &json!({ "a": 1 })).await, 409).await;
    define(&app, json!({ "key": "/a", "while": "unfinished", "conflict": "replace" })).await;
    assert_eq!(push(json!({ "a": 1, "b": 1, "n": 3 }), 200).await, second);

    // Another place has values of its own: those of the former do not stand in the way, though they are the same.
    define(&app, json!({ "key": "/b", "while": "unfinished" })).await;
    let third = push(json!({ "b": 1 }), 201).await;
    assert_eq!(push(json!({ "b": 1, "a": 1 }), 200).await, third);
    // Without a rule nothing is unique, and with the first again what it held is.
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    push(json!({ "a": 1, "b": 1 }), 201).await;
    define(&app, json!({ "key": "/a", "while": "unfinished" })).await;
    assert_eq!(push(json!({ "a": 1 }), 200).await, second);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_know_the_new_rule_yet_goes_by_it_all_the_same() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a", "conflict": "reject" })).await;
    let mut db = app.connect().await;
    // As another process puts it, before this one has heard of it.
    let put = "UPDATE queues SET uniqueness = '{\"key\": \"/b\", \"while\": \"unfinished\", \"conflict\": \"existing\"}'";
    sqlx::query(put).execute(&mut db).await.unwrap();
    let first =
        json(app.post("/queues/q/messages", &json!({ "a": 1, "b": 1 })).await, 201).await["id"].clone();
    let again = json(app.post("/queues/q/messages", &json!({ "a": 2, "b": 1 })).await, 200).await;
    assert_eq!(again["id"], first);
    json(app.post("/queues/q/messages", &json!({ "a": 1, "b": 2 })).await, 201).await;
    app.stop().await;
}

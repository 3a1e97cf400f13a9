//! One's own key of a message: what its sender calls it, and finds it by.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use serde_json::{Value, json};

/// The ids of a listing.
async fn listed(app: &TestApp, query: &str) -> Vec<String> {
    let page = json(app.get(&format!("/queues/q/messages?{query}")).await, 200).await;
    page["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
}

async fn push(app: &TestApp, query: &str, body: Value) -> String {
    let answer = json(app.post(&format!("/queues/q/messages{query}"), &body).await, 201).await;
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_where_there_is_one_and_several_may_have_the_same() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let pushed = app.post("/queues/q/messages?key=booking%3A42&delay=1h", &json!(1)).await;
    let pushed = text(pushed, 201).await;
    assert!(pushed.ends_with(r#""result":null,"error":null,"key":"booking:42"}"#), "{pushed}");
    let pushed: Value = serde_json::from_str(&pushed).unwrap();
    let first = pushed["id"].as_str().unwrap();
    assert_eq!(app.message("q", first).await, pushed);
    assert_eq!(app.whole_message("q", first).await["key"], "booking:42");
    let second = push(&app, "?key=booking%3A42", json!(1)).await;
    let none = push(&app, "", json!(1)).await;
    assert_eq!(app.message("q", &none).await.as_object().unwrap().len(), 6);
    let page = json(app.get("/queues/q/messages").await, 200).await;
    let keys: Vec<&Value> = page["messages"].as_array().unwrap().iter().map(|m| &m["key"]).collect();
    assert_eq!(keys, [&json!(null), &json!("booking:42"), &json!("booking:42")]);
    assert_eq!(listed(&app, "key=booking:42").await, [second, first.to_owned()]);
    assert_eq!(listed(&app, "key=booking:4").await, [""; 0]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_takes_a_key_of_1_to_255_characters() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let mut db = app.connect().await;
    let longest = "é".repeat(255);
    push(&app, &format!("?key={longest}"), json!(1)).await;
    assert_eq!(listed(&app, &format!("key={longest}")).await.len(), 1);
    for bad in ["", &"k".repeat(256), "a%00"] {
        refusal(app.post(&format!("/queues/q/messages?key={bad}"), &json!(1)).await, 400).await;
        refusal(app.get(&format!("/queues/q/messages?key={bad}")).await, 400).await;
    }
    let items = json!({ "messages": [{ "message": 1, "key": "k" }, { "message": { "key": "x" } }, { "message": 2, "key": "k" }] });
    let answer = json(app.post("/queues/q/messages:batch", &items).await, 201).await;
    let sql = "SELECT enqueue('q', '3', key => 'k', delay => '1 hour')::text";
    let by_sql: String = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
    let sql = "SELECT (enqueue_many('q', ARRAY['4', '5'], keys => ARRAY['k', NULL]))[1]::text";
    let by_many: String = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
    let id = |n: usize| answer[n]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed(&app, "key=k").await, [by_many, by_sql, id(2), id(0)]);
    for bad in ["''", "repeat('k', 256)"] {
        let sql = format!("SELECT enqueue('q', '3', key => {bad})");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut db).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "22023");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_a_key_goes_by_pages_by_status_and_by_time() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.insert(0, push(&app, "?key=k", json!(n)).await);
        push(&app, "?key=other", json!(n)).await;
        push(&app, "", json!(n)).await;
    }
    let (mut found, mut query) = (Vec::new(), "key=k&limit=3".to_owned());
    loop {
        let page = json(app.get(&format!("/queues/q/messages?{query}")).await, 200).await;
        found.extend(
            page["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        query = format!("key=k&limit=3&cursor={next}");
    }
    assert_eq!(found, expected);

    // The three oldest run, and one of them has ended.
    let claimed = json(app.post("/queues/q/claim?max=7", &json!(null)).await, 200).await;
    let (id, lease) = (claimed[0]["id"].as_str().unwrap(), &claimed[0]["lease"]);
    let done =
        app.post(&format!("/queues/q/messages/{id}/complete"), &json!({ "lease": lease, "result": 1 })).await;
    assert_eq!(done.status(), 204);
    assert_eq!(listed(&app, "key=k&status=COMPLETE").await, expected[6..]);
    assert_eq!(listed(&app, "key=k&status=INPROGRESS").await, expected[4..6]);
    assert_eq!(listed(&app, "key=k&status=PENDING").await, expected[..4]);
    assert_eq!(listed(&app, "key=k&status=PENDING&limit=2").await, expected[..2]);
    assert_eq!(listed(&app, "key=k&status=ERROR").await, [""; 0]);
    assert_eq!(listed(&app, "key=k&created_after=2099-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(listed(&app, "key=other&status=COMPLETE").await, [""; 0]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_unique_where_the_queue_says_so() {
    let app = TestApp::start().await;
    app.define("q", json!({ "options": { "unique": { "key": "key" } } })).await;
    let first = push(&app, "?key=k", json!(1)).await;
    assert_eq!(json(app.post("/queues/q/messages?key=k", &json!(2)).await, 200).await["id"], first);
    push(&app, "?key=l", json!(1)).await;
    push(&app, "", json!(1)).await;
    push(&app, "", json!(1)).await;
    app.stop().await;
}

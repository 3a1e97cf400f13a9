//! `Idempotency-Key`: a push that is sent again makes no second message.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value, json};

async fn push(app: &TestApp, queue: &str, key: &str, message: &str) -> reqwest::Response {
    let request = app.request(Method::POST, &format!("/queues/{queue}/messages"));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    request.body(message.to_owned()).send().await.unwrap()
}

async fn count(app: &TestApp, queue: &str) -> usize {
    json(app.get(&format!("/queues/{queue}/messages")).await, 200).await["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_give_the_first_message_again() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("other", json!({})).await;
    let first = push(&app, "q", "k", r#"{"a":1}"#).await;
    let location = first.headers()["location"].clone();
    let first = text(first, 201).await;
    let again = push(&app, "q", "k", " {\"a\":1}\n").await;
    assert_eq!(again.headers()["location"], location);
    assert_eq!(text(again, 200).await, first);
    // What became of it since then is told, too.
    json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    let again = json(push(&app, "q", "k", r#"{"a":1}"#).await, 200).await;
    assert_eq!(again["status"], "INPROGRESS");
    for other in [r#"{"a":2}"#, r#"{"a": 1}"#, r#"{"a":1.0}"#] {
        refusal(push(&app, "q", "k", other).await, 409).await;
    }
    text(push(&app, "q", "K", r#"{"a":1}"#).await, 201).await;
    let elsewhere = json(push(&app, "other", "k", r#"{"a":2}"#).await, 201).await;
    assert_ne!(elsewhere["id"], again["id"]);
    assert_eq!((count(&app, "q").await, count(&app, "other").await), (2, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pushes_at_once_with_one_key_make_one_message() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = join_all((0..20).map(|_| push(&app, "q", &key, "7"))).await;
        let created = answers.iter().filter(|answer| answer.status() == 201).count();
        assert_eq!(created, 1);
        let mut ids = Vec::new();
        for answer in answers {
            assert!([200, 201].contains(&answer.status().as_u16()), "{}", answer.status());
            ids.push(answer.json::<Value>().await.unwrap()["id"].clone());
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    assert_eq!(count(&app, "q").await, 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bodies_at_once_with_one_key_one_is_kept_and_the_other_refused() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let answers = join_all((0..20).map(|n| push(&app, "q", "k", if n % 2 == 0 { "1" } else { "2" }))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; 9], vec![201], vec![409; 10]].concat());
    assert_eq!(count(&app, "q").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_1_to_255_characters_sent_once() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let longest = "k".repeat(255);
    text(push(&app, "q", &longest, "1").await, 201).await;
    text(push(&app, "q", "a key, with; signs/\"and\" spaces", "1").await, 201).await;
    for bad in ["", "  ", &"k".repeat(256), "clé"] {
        refusal(push(&app, "q", bad, "1").await, 400).await;
    }
    let twice = app.request(Method::POST, "/queues/q/messages").json(&1);
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b");
    refusal(twice.send().await.unwrap(), 400).await;
    let batch =
        app.request(Method::POST, "/queues/q/messages:batch").json(&[1]).header("idempotency-key", "a");
    refusal(batch.send().await.unwrap(), 400).await;
    assert_eq!(count(&app, "q").await, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_does_not_use_its_key_up() {
    let app = TestApp::start().await;
    app.define("q", json!({ "incoming": { "schema": { "type": "integer" } } })).await;
    refusal(push(&app, "q", "k", "\"no\"").await, 422).await;
    text(push(&app, "q", "k", "1").await, 201).await;
    refusal(push(&app, "q", "k", "\"no\"").await, 422).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_messages_key_makes_no_new_one() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let first = text(push(&app, "q", "k", "1").await, 201).await;
    let id = serde_json::from_str::<Value>(&first).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    assert_eq!(text(push(&app, "q", "k", "1").await, 200).await, first);
    refusal(push(&app, "q", "k", "2").await, 409).await;
    refusal(app.get(&format!("/queues/q/messages/{id}")).await, 404).await;
    assert_eq!(count(&app, "q").await, 0);
    app.stop().await;
}

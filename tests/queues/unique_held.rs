//! Values that a transaction holds which has not ended: only pushes of those wait, however many there are.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many values are held.
const HELD: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_other_values_and_of_none_are_answered_while_six_hundred_are_held() {
    let app = TestApp::start().await;
    let options = json!({ "unique": { "key": "/a" } });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
    let mut db = app.connect().await;
    let held = r"SELECT count(enqueue('q', json_build_object('a', n))) FROM generate_series(1, $1::int) AS n";
    db.execute("BEGIN").await.unwrap();
    sqlx::query(held).bind(i32::try_from(HELD).unwrap()).execute(&mut db).await.unwrap();
    let refused = AtomicUsize::new(0);
    let bodies: Vec<Value> = (1..=HELD).map(|a| json!({ "a": a })).collect();
    let waiting = join_all(bodies.iter().map(|body| async {
        let problem = refusal(app.post("/queues/q/messages", body).await, 503).await;
        assert!(problem["detail"].as_str().unwrap().contains("this value"), "{problem}");
        refused.fetch_add(1, Ordering::SeqCst);
    }));
    let others = async {
        for n in 0..30 {
            text(app.post("/queues/q/messages", &json!({ "a": format!("free {n}") })).await, 201).await;
            text(app.post("/queues/q/messages?key=k", &json!({})).await, 201).await;
            assert_eq!(refused.load(Ordering::SeqCst), 0, "it waits for those that are held, {n}");
        }
    };
    futures::join!(waiting, others);
    db.execute("ROLLBACK").await.unwrap();
    // Nothing is left behind in their way.
    text(app.post("/queues/q/messages", &json!({ "a": 1 })).await, 201).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_a_held_value_does_not_use_its_idempotency_key_up_and_a_batch_is_whole() {
    let app = TestApp::start().await;
    let options = json!({ "unique": { "key": "/a" } });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '{\"a\": 1}')").await.unwrap();
    let keyed = async |a: i64| {
        let request =
            app.request(Method::POST, "/queues/q/messages").header("idempotency-key", format!("k{a}"));
        request.json(&json!({ "a": a })).send().await.unwrap()
    };
    let batch = json!([{ "a": 5 }, { "a": 1 }, {}]);
    let waiting = async { tokio::join!(keyed(1), keyed(1), app.post("/queues/q/messages:batch", &batch)) };
    let others = async {
        text(keyed(2).await, 201).await;
        text(keyed(3).await, 201).await;
        db.execute("ROLLBACK").await.unwrap();
    };
    let ((one, same, batch), ()) = tokio::join!(waiting, others);
    let mut statuses = [one.status().as_u16(), same.status().as_u16()];
    statuses.sort_unstable();
    let batch = json(batch, 201).await;
    assert!(statuses == [200, 201] || statuses == [200, 200], "{statuses:?}");
    let [one, same] = [one, same].map(|answer| async { answer.json::<Value>().await.unwrap() });
    let (one, same) = tokio::join!(one, same);
    assert_eq!((&one["id"], &one["id"]), (&same["id"], &batch[1]["id"]));
    let page = json(app.get("/queues/q/messages").await, 200).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 5);
    app.stop().await;
}

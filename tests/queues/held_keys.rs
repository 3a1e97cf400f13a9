//! Idempotency keys that a transaction uses which has not ended: nobody waits for it but pushes of those keys.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use futures::future::join_all;
use serde_json::json;
use sqlx::Executor as _;
use std::time::{Duration, Instant};

/// Far less than a push waits for a held key, and far more than one takes that waits for nobody.
const SOON: Duration = Duration::from_secs(3);

async fn push(app: &TestApp, queue: &str, key: &str, message: &str) -> reqwest::Response {
    let request = app.request(Method::POST, &format!("/queues/{queue}/messages"));
    let request = request.header("idempotency-key", key).header("content-type", "application/json");
    request.body(message.to_owned()).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_with_other_keys_do_not_wait_for_a_transaction_that_is_open() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("other", json!({})).await;
    let mut db = app.connect().await;
    db.execute("BEGIN").await.unwrap();
    for key in ["A", "B"] {
        sqlx::query("SELECT enqueue('q', '1', idempotency_key => $1)")
            .bind(key)
            .execute(&mut db)
            .await
            .unwrap();
    }
    // Those with the held keys come first, and again and again.
    let held = join_all((0..10).map(|n| push(&app, "q", if n % 2 == 0 { "A" } else { "B" }, "1")));
    let others = async {
        for round in 0..20 {
            let started = Instant::now();
            let keys: Vec<String> = (0..10).map(|n| format!("{round} {n}")).collect();
            for answer in join_all(keys.iter().map(|key| push(&app, "other", key, "1"))).await {
                text(answer, 201).await;
            }
            text(push(&app, "q", &format!("{round}"), "1").await, 201).await;
            assert!(started.elapsed() < SOON, "round {round} took {:?}", started.elapsed());
        }
        db.execute("COMMIT").await.unwrap();
    };
    let (held, ()) = futures::join!(held, others);
    let mut ids = Vec::new();
    for answer in held {
        ids.push(json(answer, 200).await["id"].clone());
    }
    assert!(ids.iter().step_by(2).all(|id| *id == ids[0]) && ids[0] != ids[1], "{ids:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_a_held_key_is_refused_after_a_while_and_stored_once_the_transaction_is_undone() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '1', idempotency_key => 'A')").await.unwrap();
    let refused = push(&app, "q", "A", "1").await;
    assert!(refused.headers().contains_key("retry-after"));
    let problem = refusal(refused, 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("idempotency key"), "{problem}");

    let waiting = join_all((0..5).map(|_| push(&app, "q", "A", "1")));
    let undone = async {
        // One that came after them, and is answered: so they are on their way.
        text(push(&app, "q", "B", "1").await, 201).await;
        db.execute("ROLLBACK").await.unwrap();
    };
    let (answers, ()) = futures::join!(waiting, undone);
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 201]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_held_key_waits_for_it_and_is_stored_whole() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '1', idempotency_key => 'A')").await.unwrap();
    let batch = async {
        let request = app.request(Method::POST, "/queues/q/messages:batch").header("idempotency-key", "A");
        json(request.json(&[1, 2, 3]).send().await.unwrap(), 201).await
    };
    let undone = async {
        text(push(&app, "q", "B", "0").await, 201).await;
        db.execute("ROLLBACK").await.unwrap();
    };
    let (stored, ()) = futures::join!(batch, undone);
    assert_eq!(stored.as_array().unwrap().len(), 3);
    let claimed = json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    let requests: Vec<_> = claimed.as_array().unwrap().iter().map(|message| &message["request"]).collect();
    assert_eq!(requests, [0, 1, 2, 3]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_gone_is_told_of_beside_a_held_key() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    app.define("gone", json!({})).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '1', idempotency_key => 'A')").await.unwrap();
    // As another process deletes it: this one does not know of it yet.
    let mut other = app.connect().await;
    other.execute("DELETE FROM queues WHERE name = 'gone'").await.unwrap();
    let held = push(&app, "q", "A", "1");
    let missing = async {
        refusal(push(&app, "gone", "k", "1").await, 404).await;
        text(push(&app, "q", "k", "1").await, 201).await;
        db.execute("COMMIT").await.unwrap();
    };
    let (held, ()) = futures::join!(held, missing);
    text(held, 200).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_once_for_a_lock_however_many_came_before_and_is_stored_if_it_goes_in_time() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'messages'::regclass";
    for key in [None, Some("A")] {
        let push = async |n: i32| {
            let request = app.request(Method::POST, "/queues/q/messages").json(&n);
            let request = match key {
                Some(key) => request.header("idempotency-key", format!("{key}{n}")),
                None => request,
            };
            let started = Instant::now();
            (request.send().await.unwrap().status().as_u16(), started.elapsed())
        };
        holder.execute("BEGIN; LOCK TABLE messages IN EXCLUSIVE MODE").await.unwrap();
        let second = async {
            eventually("the first waits", async || {
                sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut db).await.unwrap() > 0
            })
            .await;
            push(2).await
        };
        let (first, second) = futures::join!(push(1), second);
        assert_eq!((first.0, second.0), (503, 503));
        assert!(second.1 < first.1 * 3 / 2, "one waited {:?}, the next {:?}", first.1, second.1);

        // While the first waits, and after it, others come; the lock goes before they have waited for as long.
        let third = async {
            eventually("it waits", async || {
                sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut db).await.unwrap() > 0
            })
            .await;
            tokio::time::sleep(first.1 / 2).await;
            push(4).await
        };
        let release = async {
            let refused = push(3).await;
            holder.execute("ROLLBACK").await.unwrap();
            refused
        };
        let (refused, third) = futures::join!(release, third);
        assert_eq!((refused.0, third.0), (503, 201));
    }
    app.stop().await;
}

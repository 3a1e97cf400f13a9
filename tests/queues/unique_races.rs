//! Pushes of one value at the same time, from everywhere: one message. Who waits for whom, and who does not.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::time::{Duration, Instant};

/// Far less than a push waits for a value that is held, and far more than one takes that waits for nobody.
const SOON: Duration = Duration::from_secs(3);

async fn define(app: &TestApp, rule: Value) {
    let options = json!({ "unique": rule });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_pushes_at_once_over_http_sql_and_in_batches_by_two_servers_one_is_stored() {
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    define(&app, json!({ "key": "/id", "while": "unfinished" })).await;
    crate::support::eventually("the other knows", async || {
        other.get("/queues/q").await.text().await.unwrap().contains("unique")
    })
    .await;
    for round in 0..4 {
        let body = json!({ "id": round, "x": [1, { "y": "é" }] });
        let push = async |n: usize| -> Vec<Value> {
            let at = if n.is_multiple_of(2) { &app } else { &other };
            match n % 5 {
                0 | 1 => {
                    let answer = at.post("/queues/q/messages", &body).await;
                    assert!([200, 201].contains(&answer.status().as_u16()), "{}", answer.status());
                    vec![answer.json::<Value>().await.unwrap()["id"].clone()]
                }
                2 => {
                    let items = json!({ "messages": [{ "message": body, "key": "k" }, { "message": body }] });
                    let answer = json(at.post("/queues/q/messages:batch", &items).await, 201).await;
                    answer.as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
                }
                3 => {
                    let mut db = at.connect().await;
                    let enqueue = "SELECT enqueue('q', $1::text)::text";
                    let id: String =
                        sqlx::query_scalar(enqueue).bind(body.to_string()).fetch_one(&mut db).await.unwrap();
                    vec![json!(id)]
                }
                _ => {
                    let mut db = at.connect().await;
                    let enqueue = "SELECT enqueue_many('q', ARRAY[$1, $1])::text[]";
                    let ids: Vec<String> =
                        sqlx::query_scalar(enqueue).bind(body.to_string()).fetch_one(&mut db).await.unwrap();
                    ids.into_iter().map(Value::from).collect()
                }
            }
        };
        let ids: Vec<Value> = join_all((0..50).map(push)).await.into_iter().flatten().collect();
        assert_eq!(ids.len(), 70);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    let page = json(app.get("/queues/q/messages").await, 200).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 4);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_other_values_do_not_wait_for_a_transaction_that_takes_one() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "body" })).await;
    app.define("plain", json!({})).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '\"held\"')").await.unwrap();
    let held_value = json!("held");
    let held = join_all((0..10).map(|_| app.post("/queues/q/messages", &held_value)));
    let others = async {
        for round in 0..20 {
            let started = Instant::now();
            let bodies: Vec<Value> = (0..10).map(|n| json!([round, n])).collect();
            for answer in join_all(bodies.iter().map(|body| app.post("/queues/q/messages", body))).await {
                text(answer, 201).await;
            }
            text(app.post("/queues/plain/messages", &json!(1)).await, 201).await;
            text(app.post("/queues/plain/messages?key=k", &json!(1)).await, 201).await;
            assert!(started.elapsed() < SOON, "round {round} took {:?}", started.elapsed());
        }
        db.execute("COMMIT").await.unwrap();
    };
    let (held, ()) = futures::join!(held, others);
    let mut ids = Vec::new();
    for answer in held {
        ids.push(json(answer, 200).await["id"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_value_is_being_taken_is_refused_after_a_while_and_stored_once_that_is_undone() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "body" })).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '1')").await.unwrap();
    let refused = app.post("/queues/q/messages", &json!(1)).await;
    assert!(refused.headers().contains_key("retry-after"));
    let problem = refusal(refused, 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("this value"), "{problem}");

    let value = json!(1);
    let waiting = join_all((0..5).map(|_| app.post("/queues/q/messages", &value)));
    let undone = async {
        // One that came after them, and is answered: so they are on their way.
        text(app.post("/queues/q/messages", &json!(2)).await, 201).await;
        db.execute("ROLLBACK").await.unwrap();
    };
    let (answers, ()) = futures::join!(waiting, undone);
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 201]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_told_of_a_message_do_not_wait_for_each_other() {
    for holds in ["waiting", "unfinished", "24h"] {
        let app = TestApp::start().await;
        define(&app, json!({ "key": "body", "while": holds })).await;
        let first = app.push("q", &json!(1)).await;
        let (mut one, mut other) = (app.connect().await, app.connect().await);
        for db in [&mut one, &mut other] {
            db.execute("BEGIN; SET LOCAL lock_timeout = '1s'").await.unwrap();
            let id: String =
                sqlx::query_scalar("SELECT enqueue('q', '1')::text").fetch_one(&mut *db).await.unwrap();
            assert_eq!(id, first, "{holds}");
        }
        let again = json(app.post("/queues/q/messages", &json!(1)).await, 200).await;
        assert_eq!(again["id"], first);
        one.execute("COMMIT").await.unwrap();
        other.execute("COMMIT").await.unwrap();
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_was_told_waits_does_not_start_before_it_has_ended() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "body", "while": "waiting" })).await;
    let first = app.push("q", &json!(1)).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; CREATE TABLE public.work (n int); SELECT enqueue('q', '1')").await.unwrap();
    let claimed = json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    assert_eq!(claimed, json!([]), "it would not see what the transaction writes");
    let waiting = app.post("/queues/q/claim?wait=10s", &json!(null));
    let commit = async { db.execute("COMMIT").await.unwrap() };
    let (claimed, _) = futures::join!(waiting, commit);
    assert_eq!(json(claimed, 200).await[0]["id"], first);
    // What runs already is another matter: the next is stored.
    let next: String = sqlx::query_scalar("SELECT enqueue('q', '1')::text").fetch_one(&mut db).await.unwrap();
    assert_ne!(next, first);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_the_same_values_in_another_order_do_not_wait_for_each_other_in_a_circle() {
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    define(&app, json!({ "key": "body" })).await;
    json(other.get("/queues/q").await, 200).await;
    let mut values: Vec<Value> = (0..50).map(Value::from).collect();
    let forwards = json!(values);
    values.reverse();
    let backwards = json!(values);
    let pushes = (0..20).map(|n: usize| {
        let (at, batch) = if n.is_multiple_of(2) { (&app, &forwards) } else { (&other, &backwards) };
        at.post("/queues/q/messages:batch", batch)
    });
    for answer in join_all(pushes).await {
        let ids = json(answer, 201).await;
        assert!(ids.as_array().unwrap().iter().all(|one| one["id"].is_string()), "{ids}");
    }
    let page = json(app.get("/queues/q/messages?limit=500").await, 200).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 50);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_meets_the_deletion_of_the_message_that_holds_its_value_is_answered_or_stored() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/k", "while": "unfinished" })).await;
    for k in 0..200 {
        let first = app.push("q", &json!({ "k": k })).await;
        let (path, body) = (format!("/queues/q/messages/{first}"), json!({ "k": k }));
        let (gone, second) = tokio::join!(app.delete(&path), app.post("/queues/q/messages", &body));
        assert_eq!(gone.status(), 204);
        let status = second.status().as_u16();
        assert!([200, 201].contains(&status), "{status}: {}", second.text().await.unwrap());
    }
    app.stop().await;
}

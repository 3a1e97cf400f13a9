//! Room for work: how much of what runs at a time, in one process and in several.

use super::{Gate, ask, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use parking_lot::Mutex;
use postrider::Message;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_takes_pushes_and_runs_nothing_until_it_is_resumed() {
    let database = database().await;
    let gate = Gate::open();
    let app = TestApp::on(database.clone(), &[], |app| app.handler("work", gate.handler())).await;
    let other = TestApp::on(database, &[], |app| app.handler("work", gate.handler())).await;
    for queue in ["paused", "running"] {
        app.define(queue, work(json!({}))).await;
    }
    assert_eq!(app.post("/queues/paused/pause", &json!(null)).await.status(), 200);
    eventually("the other instance learns of it", async || {
        let queues: Value = other.get("/queues").await.json().await.unwrap();
        queues[0]["paused"] == true
    })
    .await;
    let mut db = app.connect().await;
    for instance in [&app, &other] {
        instance.push("paused", &json!("held")).await;
        instance.push("running", &json!("free")).await;
    }
    eventually("the other queue goes on", async || {
        gate.begun().iter().filter(|begun| begun.request == "free").count() == 2
    })
    .await;
    for instance in [&app, &other] {
        instance.server.run_until_idle().await.unwrap();
    }
    assert!(gate.begun().iter().all(|begun| begun.request == "free"));
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 2);
    assert_eq!(other.post("/queues/paused/resume", &json!(null)).await.status(), 200);
    eventually("it goes on", async || gate.begun().len() == 4).await;
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lets_what_runs_finish_and_starts_nothing_more() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let first = app.push("q", &json!(1)).await;
    app.push("q", &json!(2)).await;
    gate.until_running(1).await;
    app.post("/queues/q/pause", &json!(null)).await;
    gate.open_up();
    assert_eq!(super::ended(&app, "q", &first).await["status"], "COMPLETE");
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 1);
    app.post("/queues/q/resume", &json!(null)).await;
    eventually("the second runs", async || gate.begun().len() == 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_never_runs_more_than_its_concurrency_at_a_time() {
    let (narrow, wide) = (Gate::shut(), Gate::shut());
    let app =
        TestApp::with(&[], |app| app.handler("work", narrow.handler()).handler("wide", wide.handler())).await;
    app.define("narrow", work(json!({ "concurrency": 3, "timeout": "10m" }))).await;
    let definition =
        json!({ "handler": { "kind": "native", "name": "wide" }, "options": { "concurrency": 40 } });
    app.define("wide", definition).await;
    let messages: Vec<Value> = (0..200).map(Value::from).collect();
    push_all(&app, "/queues/narrow/messages:batch", &messages).await;
    push_all(&app, "/queues/wide/messages:batch", &messages).await;
    narrow.until_running(3).await;
    wide.until_running(40).await;
    for released in 1..=50 {
        narrow.let_through(1);
        eventually("another begins", async || narrow.begun().len() == 3 + released).await;
    }
    narrow.open_up();
    wide.open_up();
    app.server.run_until_idle().await.unwrap();
    assert_eq!((narrow.most(), wide.most()), (3, 40));
    assert_eq!((narrow.runs().len(), wide.runs().len()), (200, 200));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_never_runs_more_than_its_capacity_and_leaves_some_to_who_comes_last() {
    let (gate, last) = (Gate::shut(), Gate::shut());
    let app =
        TestApp::with(&[], |app| app.handler("work", gate.handler()).handler("last", last.handler())).await;
    for queue in ["one", "two"] {
        app.define(queue, work(json!({ "concurrency": 10_000, "timeout": "10m" }))).await;
    }
    let messages: Vec<Value> = (0..2500).map(Value::from).collect();
    for queue in ["one", "two"] {
        push_all(&app, &format!("/queues/{queue}/messages:batch"), &messages).await;
    }
    let mut db = app.connect().await;
    let capacity: i32 = ask(&mut db, "SELECT capacity FROM workers").await;
    let capacity = usize::try_from(capacity).unwrap();
    assert!(capacity < 5000);
    let most = capacity * 3 / 4;
    eventually("they take most of the room", async || gate.running() >= most).await;
    gate.let_through(100);
    eventually("others take their places", async || gate.begun().len() >= most + 100).await;
    let leased: i64 = ask(&mut db, "SELECT sum(cardinality(items))::bigint FROM leases").await;
    assert!((most..capacity).contains(&usize::try_from(leased).unwrap()), "{leased}");
    let definition = json!({ "handler": { "kind": "native", "name": "last" }, "options": { "concurrency": 64, "timeout": "10m" } });
    app.define("last", definition).await;
    push_all(&app, "/queues/last/messages:batch", &messages[..64]).await;
    last.until_running(64).await;
    assert!(gate.running() >= most, "nobody made room for it");
    gate.open_up();
    last.open_up();
    app.server.run_until_idle().await.unwrap();
    assert_eq!((gate.runs().len(), last.runs().len()), (5000, 64));
    assert!(gate.most() + last.most() <= capacity);
    app.stop().await;
}

/// What runs now, and how often each message ran.
#[derive(Default)]
struct Seen {
    running: HashSet<Uuid>,
    runs: HashMap<Uuid, usize>,
    at_once: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_run_every_message_once_and_none_at_the_same_time() {
    let database = database().await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let handler = || {
        let seen = Arc::clone(&seen);
        move |message: Message| {
            let seen = Arc::clone(&seen);
            async move {
                {
                    let mut seen = seen.lock();
                    if !seen.running.insert(message.id) {
                        seen.at_once += 1;
                    }
                    *seen.runs.entry(message.id).or_insert(0) += 1;
                }
                tokio::task::yield_now().await;
                seen.lock().running.remove(&message.id);
                Ok(json!(null))
            }
        }
    };
    let one = TestApp::on(database.clone(), &[], |app| app.handler("work", handler())).await;
    let two = TestApp::on(database, &[], |app| app.handler("work", handler())).await;
    one.define("q", work(json!({ "concurrency": 30 }))).await;
    let messages: Vec<Value> = (0..4000).map(Value::from).collect();
    let path = "/queues/q/messages:batch";
    let (mut ids, more) = tokio::join!(push_all(&one, path, &messages), push_all(&two, path, &messages));
    ids.extend(more);
    for instance in [&one, &two, &one] {
        instance.server.run_until_idle().await.unwrap();
    }
    let Seen { runs, at_once, .. } = std::mem::take(&mut *seen.lock());
    assert_eq!(at_once, 0, "run by both at a time");
    assert_eq!(runs.len(), 8000);
    assert!(ids.iter().all(|id| runs[&id.parse::<Uuid>().unwrap()] == 1));
    let mut db = one.connect().await;
    let complete = "SELECT count(*) FROM queue_messages WHERE status = 'COMPLETE' AND attempt = 1";
    assert_eq!(ask::<i64>(&mut db, complete).await, 8000);
    two.stop().await;
    one.stop().await;
}

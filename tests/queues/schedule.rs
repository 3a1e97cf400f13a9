//! When messages run, and in which order: delay, moment, priority, and else the order of the pushes.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use chrono::{DateTime, Utc};
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The messages that a handler has seen, in order.
type Seen = Arc<Mutex<Vec<Value>>>;

fn note(seen: &Seen) -> impl Fn(Message) -> futures::future::Ready<Result<Value, Failure>> + use<> {
    let seen = Arc::clone(seen);
    move |message| {
        let value = message.json::<Value>();
        futures::future::ready(value.inspect(|value| seen.lock().unwrap().push(value.clone())))
    }
}

async fn start() -> (TestApp, Seen) {
    let seen = Seen::default();
    let app = TestApp::with(&[], |app| app.handler("note", note(&seen))).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "note" } })).await;
    (app, seen)
}

/// Headers of a push.
type Headers = &'static [(&'static str, &'static str)];

/// Pushes with a query and headers; returns the id.
async fn push(app: &TestApp, query: &str, headers: &[(&str, &str)], message: &Value) -> String {
    let mut request = app.request(Method::POST, &format!("/queues/q/messages{query}")).json(message);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    json(request.send().await.unwrap(), 201).await["id"].as_str().unwrap().to_owned()
}

fn moment(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_waits_with_its_time_and_then_runs() {
    let (app, seen) = start().await;
    let database_now = async || {
        let mut db = app.connect().await;
        sqlx::query_scalar::<_, DateTime<Utc>>("SELECT now()").fetch_one(&mut db).await.unwrap()
    };
    let in_an_hour = (database_now().await + Duration::from_hours(1)).to_rfc3339();
    let in_an_hour = in_an_hour.replace('+', "%2B");
    let header_moment = in_an_hour.replace("%2B", "+");
    let pushes: [(String, Vec<(&str, &str)>); 6] = [
        ("?delay=1h".to_owned(), vec![]),
        ("?delay=59m%2059s%201000ms".to_owned(), vec![]),
        (format!("?run_at={in_an_hour}"), vec![]),
        (String::new(), vec![("postrider-delay", "1h")]),
        (String::new(), vec![("postrider-run-at", &*header_moment)]),
        // The query wins.
        ("?delay=1h".to_owned(), vec![("postrider-delay", "1s")]),
    ];
    for (query, headers) in &pushes {
        let id = push(&app, query, headers, &json!(query)).await;
        app.server.run_until_idle().await.unwrap();
        let full = app.whole_message("q", &id).await;
        assert_eq!((&full["status"], &full["attempts"]), (&json!("PENDING"), &json!(0)), "{query}");
        let wait = moment(&full["run_at"]) - moment(&full["created_at"]);
        assert!((wait.num_seconds() - 3600).abs() < 60, "{query} {headers:?}: {wait}");
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
    app.elapse(Duration::from_mins(50)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 0);
    app.elapse(Duration::from_secs(700)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), pushes.len());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_passed_is_now() {
    let (app, seen) = start().await;
    for query in ["?delay=0s", "?run_at=1970-01-01T00:00:00Z", "?run_at=2020-02-29T23:59:60.5%2B05:30"] {
        let id = push(&app, query, &[], &json!(query)).await;
        assert_eq!(app.ended("q", &id).await["status"], "COMPLETE", "{query}");
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_or_priority_that_cannot_be_is_a_400() {
    let (app, _) = start().await;
    let bad = [
        "delay=",
        "delay=10",
        "delay=soon",
        "delay=-1s",
        "delay=1s%00",
        "delay=11y",
        "delay=99999999999999999999y",
        "delay=1e9s",
        "run_at=",
        "run_at=tomorrow",
        "run_at=2030-01-01",
        "run_at=2030-01-01T00:00:00",
        "run_at=2030-13-01T00:00:00Z",
        "run_at=9999-12-31T23:59:59Z",
        "run_at=infinity",
        "run_at=1893456000",
        "delay=1s&run_at=2030-01-01T00:00:00Z",
        "priority=",
        "priority=high",
        "priority=101",
        "priority=-101",
        "priority=1.0",
        "priority=1e1",
        "priority=99999999999999999999",
    ];
    for query in bad {
        let problem = refusal(app.post(&format!("/queues/q/messages?{query}"), &json!(1)).await, 400).await;
        assert!(problem["detail"].is_string(), "{query}");
        refusal(app.post(&format!("/queues/q/messages:batch?{query}"), &json!([1])).await, 400).await;
        let (name, value) = query.split_once('=').unwrap();
        if value.contains(['&', '%']) {
            continue;
        }
        let header = format!("postrider-{}", name.replace('_', "-"));
        let request = app.request(Method::POST, "/queues/q/messages").header(header, value).json(&1);
        refusal(request.send().await.unwrap(), 400).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_run_by_priority_and_then_in_the_order_of_their_pushes() {
    let (app, seen) = start().await;
    app.post("/queues/q/pause", &json!(null)).await;
    let pushes: [(&str, Headers, &str); 9] = [
        ("", &[], "0 first"),
        ("?priority=-100", &[], "-100"),
        ("?priority=5", &[], "5 first"),
        ("?priority=100", &[], "100"),
        ("", &[("postrider-priority", "5")], "5 second"),
        ("?priority=%2B0", &[], "0 second"),
        ("?priority=-1", &[("postrider-priority", "99")], "-1"),
        ("", &[], "0 third"),
        ("?priority=5", &[], "5 third"),
    ];
    for (query, headers, name) in pushes {
        let id = push(&app, query, headers, &json!(name)).await;
        let priority = app.whole_message("q", &id).await["priority"].clone();
        assert_eq!(name.split(' ').next().unwrap(), priority.to_string());
    }
    app.post("/queues/q/resume", &json!(null)).await;
    app.server.run_until_idle().await.unwrap();
    let order = ["100", "5 first", "5 second", "5 third", "0 first", "0 second", "0 third", "-1", "-100"];
    assert_eq!(*seen.lock().unwrap(), order);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_run_in_the_order_of_their_pushes() {
    let (app, seen) = start().await;
    app.post("/queues/q/pause", &json!(null)).await;
    for batch in 0..4 {
        let messages: Vec<i32> = (batch * 250..(batch + 1) * 250).collect();
        json(app.post("/queues/q/messages:batch", &json!(messages)).await, 201).await;
    }
    app.post("/queues/q/resume", &json!(null)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), (0..1000).map(|n| json!(n)).collect::<Vec<_>>());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definitions_priority_holds_where_a_push_has_none() {
    let (app, _) = start().await;
    let handler = json!({ "kind": "worker" });
    app.define("q", json!({ "handler": handler, "options": { "priority": -7 } })).await;
    let id = push(&app, "", &[], &json!(1)).await;
    assert_eq!(app.whole_message("q", &id).await["priority"], -7);
    let id = push(&app, "?priority=0", &[], &json!(1)).await;
    assert_eq!(app.whole_message("q", &id).await["priority"], 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_messages_run_at_once_as_the_definition_says() {
    // Counted in the handler: a message whose handler is done stays INPROGRESS until its end is written, and
    // the next one may begin meanwhile.
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let (running, most, gate) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&gate));
        move |_: Message| {
            let (running, most, gate) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&gate));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(json!(null))
            }
        }
    };
    let app = TestApp::with(&[], |app| app.handler("count", handler)).await;
    let handler = json!({ "kind": "native", "name": "count" });
    app.define("q", json!({ "handler": handler, "options": { "concurrency": 3 } })).await;
    for n in 0..30 {
        app.push("q", &json!(n)).await;
    }
    eventually("three run", async || running.load(Ordering::SeqCst) == 3).await;
    for _ in 0..30 {
        gate.add_permits(1);
        tokio::task::yield_now().await;
    }
    app.server.run_until_idle().await.unwrap();
    assert_eq!((running.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 3));
    let page = json(app.get("/queues/q/messages?status=COMPLETE").await, 200).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 30);
    app.stop().await;
}

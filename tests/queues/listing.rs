//! What administrators do: list pages of messages, pause and resume, run messages in ERROR again.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A handler that rejects everything until it is told to be good.
fn moody(
    good: &Arc<AtomicBool>,
) -> impl Fn(Message) -> futures::future::Ready<Result<Value, Failure>> + use<> {
    let good = Arc::clone(good);
    move |message| {
        futures::future::ready(if good.load(Ordering::SeqCst) {
            Ok(json!(message.attempt))
        } else {
            Err(Failure::Reject(json!("in a bad mood")))
        })
    }
}

fn ids(page: &Value) -> Vec<String> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_newest_first_and_hold_every_message_once() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    app.define("other", json!({})).await;
    app.push("other", &json!(0)).await;
    let mut pushed = Vec::new();
    for n in 0..7 {
        pushed.push(app.push("q", &json!(n)).await);
    }
    pushed.reverse();
    let mut seen = Vec::new();
    let mut path = "/queues/q/messages?limit=3".to_owned();
    loop {
        let page = json(app.get(&path).await, 200).await;
        seen.push(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/queues/q/messages?limit=3&cursor={next}");
        // What is pushed meanwhile is newer than every page to come.
        app.push("q", &json!("late")).await;
    }
    assert_eq!(seen, [&pushed[..3], &pushed[3..6], &pushed[6..]]);
    let page = json(app.get("/queues/q/messages").await, 200).await;
    let keys: Vec<&String> = page["messages"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 6);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_is_narrowed_by_status_and_time() {
    let good = Arc::new(AtomicBool::new(false));
    let app = TestApp::with(&[], |app| app.handler("moody", moody(&good))).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "moody" } })).await;
    let failed = app.push("q", &json!(1)).await;
    app.ended("q", &failed).await;
    good.store(true, Ordering::SeqCst);
    let complete = app.push("q", &json!(2)).await;
    app.ended("q", &complete).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let pending = app.push("q", &json!(3)).await;
    let of = async |query: &str| ids(&json(app.get(&format!("/queues/q/messages?{query}")).await, 200).await);
    assert_eq!(of("status=ERROR").await, [&*failed]);
    assert_eq!(of("status=COMPLETE").await, [&*complete]);
    assert_eq!(of("status=PENDING").await, [&*pending]);
    assert_eq!(of("status=INPROGRESS").await, [""; 0]);
    let all = [&*pending, &*complete, &*failed];
    let created = app.whole_message("q", &complete).await["created_at"].as_str().unwrap().to_owned();
    assert_eq!(of(&format!("created_after={created}")).await, all[..2]);
    assert_eq!(of(&format!("created_before={created}")).await, all[2..]);
    // Moments before and after all that an id can say.
    for early in ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-9999-01-01T00:00:00Z"] {
        assert_eq!(of(&format!("created_after={early}")).await, all, "{early}");
        assert_eq!(of(&format!("created_before={early}")).await, [""; 0], "{early}");
    }
    for late in ["9999-12-31T23:59:59Z", "%2B100000-01-01T00:00:00Z", "%2B262142-01-01T00:00:00Z"] {
        assert_eq!(of(&format!("created_before={late}")).await, all, "{late}");
        assert_eq!(of(&format!("created_after={late}")).await, [""; 0], "{late}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_cannot_be_read_is_a_400() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    for query in [
        "status=complete",
        "status=",
        "status=DONE",
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=ten",
        "limit=99999999999999999999",
        "cursor=x",
        "cursor=",
        "cursor=%00",
        "created_after=today",
        "created_after=2026-01-01",
        "created_before=2026-13-01T00:00:00Z",
        "status=ERROR&status=ERROR",
    ] {
        let problem = refusal(app.get(&format!("/queues/q/messages?{query}")).await, 400).await;
        assert!(problem["detail"].is_string(), "{query}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_takes_messages_and_runs_none() {
    let good = Arc::new(AtomicBool::new(true));
    let app = TestApp::with(&[], |app| app.handler("moody", moody(&good))).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "moody" } })).await;
    app.define("neighbour", json!({ "handler": { "kind": "native", "name": "moody" } })).await;
    for _ in 0..2 {
        let paused = json(app.post("/queues/q/pause", &json!(null)).await, 200).await;
        assert_eq!(paused, json!({ "queue": "q", "paused": true }));
    }
    let waiting = app.push("q", &json!(1)).await;
    assert_eq!(app.handled("neighbour", &json!(2)).await["status"], "COMPLETE");
    assert_eq!(app.message("q", &waiting).await["status"], "PENDING");
    // A redefinition does not resume.
    app.define("q", json!({ "handler": { "kind": "native", "name": "moody" }, "client_id": "c" })).await;
    let listed = json(app.get("/queues").await, 200).await;
    assert_eq!(listed[1]["name"], "q");
    assert_eq!(listed[1]["paused"], true);
    assert_eq!(app.handled("neighbour", &json!(3)).await["status"], "COMPLETE");
    assert_eq!(app.message("q", &waiting).await["status"], "PENDING");
    let resumed = json(app.post("/queues/q/resume", &json!(null)).await, 200).await;
    assert_eq!(resumed, json!({ "queue": "q", "paused": false }));
    assert_eq!(app.ended("q", &waiting).await["status"], "COMPLETE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_error_runs_again_with_its_attempts_counted_anew() {
    let good = Arc::new(AtomicBool::new(false));
    let app = TestApp::with(&[], |app| app.handler("moody", moody(&good))).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "moody" } })).await;
    let id = app.push("q", &json!(1)).await;
    assert_eq!(app.ended("q", &id).await["error"], "in a bad mood");
    app.post("/queues/q/pause", &json!(null)).await;
    let path = format!("/queues/q/messages/{id}/retry");
    let again = json(app.post(&path, &json!(null)).await, 200).await;
    assert_eq!((&again["status"], &again["error"]), (&json!("PENDING"), &json!(null)));
    refusal(app.post(&path, &json!(null)).await, 409).await;
    good.store(true, Ordering::SeqCst);
    app.post("/queues/q/resume", &json!(null)).await;
    let ended = app.ended("q", &id).await;
    assert_eq!((&ended["status"], &ended["result"]), (&json!("COMPLETE"), &json!(1)));
    refusal(app.post(&path, &json!(null)).await, 409).await;
    let full = app.whole_message("q", &id).await;
    assert_eq!(full["attempts"], 1);
    assert_eq!(full["history"][0]["error"], "in a bad mood");
    assert_eq!(full["history"][1]["error"], json!(null));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_in_error_run_again_oldest_first_up_to_a_limit() {
    let good = Arc::new(AtomicBool::new(false));
    let app = TestApp::with(&[], |app| app.handler("moody", moody(&good))).await;
    for queue in ["q", "other"] {
        app.define(queue, json!({ "handler": { "kind": "native", "name": "moody" } })).await;
    }
    let mut failed = Vec::new();
    for n in 0..5 {
        failed.push(app.push("q", &json!(n)).await);
    }
    let elsewhere = app.push("other", &json!(0)).await;
    app.server.run_until_idle().await.unwrap();
    good.store(true, Ordering::SeqCst);
    app.handled("q", &json!("complete")).await;

    let retry = async |query: &str| {
        json(app.post(&format!("/queues/q/messages:retry{query}"), &json!(null)).await, 200).await
    };
    assert_eq!(retry("?created_before=2020-01-01T00:00:00Z").await, json!({ "retried": 0, "more": false }));
    assert_eq!(retry("?limit=2").await, json!({ "retried": 2, "more": true }));
    app.server.run_until_idle().await.unwrap();
    let mut statuses = Vec::new();
    for id in &failed {
        statuses.push(app.message("q", id).await["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(statuses, ["COMPLETE", "COMPLETE", "ERROR", "ERROR", "ERROR"]);
    assert_eq!(retry("?created_after=1960-01-01T00:00:00Z").await, json!({ "retried": 3, "more": false }));
    app.server.run_until_idle().await.unwrap();
    assert_eq!(retry("").await, json!({ "retried": 0, "more": false }));
    assert_eq!(app.message("other", &elsewhere).await["status"], "ERROR");
    for query in ["?limit=0", "?limit=10001", "?limit=x", "?created_after=x"] {
        refusal(app.post(&format!("/queues/q/messages:retry{query}"), &json!(null)).await, 400).await;
    }
    app.stop().await;
}

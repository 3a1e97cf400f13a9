//! Remote workers: claim, heartbeat, complete, fail, and what becomes of the leases of dead ones.

use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use futures::FutureExt;
use serde_json::{Value, json};
use std::time::Duration;

/// An app with the queue `q` for remote workers.
pub(super) async fn start(options: Value) -> TestApp {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
    app
}

pub(super) async fn claim(app: &TestApp, query: &str) -> Vec<Value> {
    let claimed = json(app.post(&format!("/queues/q/claim{query}"), &json!(null)).await, 200).await;
    claimed.as_array().unwrap().clone()
}

/// Calls about a claimed message.
pub(super) async fn call(app: &TestApp, claimed: &Value, what: &str, body: Value) -> reqwest::Response {
    let mut body = body;
    body["lease"] = claimed["lease"].clone();
    app.post(&format!("/queues/q/messages/{}/{what}", claimed["id"].as_str().unwrap()), &body).await
}

/// Lets a minute pass, in which no remote worker gives a sign of life, and waits for the reclaim.
pub(super) async fn a_silent_minute(app: &TestApp) {
    app.elapse(Duration::from_mins(1)).await;
    eventually("the leases are over", async || {
        let mut db = app.connect().await;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM leases").fetch_one(&mut db).await.unwrap();
        left == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gives_id_request_attempt_and_lease_in_push_order() {
    let app = start(json!({})).await;
    assert_eq!(claim(&app, "").await, [json!(null); 0]);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(app.push("q", &json!({ "n": n })).await);
    }
    let first = claim(&app, "").await;
    assert_eq!(first.len(), 1, "one unless more are asked for");
    let rest = claim(&app, "?max=3").await;
    assert_eq!((rest.len(), claim(&app, "?max=100").await.len()), (3, 1));
    for (n, (claimed, id)) in first.iter().chain(&rest).zip(&ids).enumerate() {
        let lease = claimed["lease"].as_str().unwrap();
        let told = json!({ "attempt": 1, "max_attempts": 3, "last": false, "lease": lease });
        let mut whole = json!({ "id": id, "request": { "n": n } });
        whole.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
        assert_eq!(*claimed, whole);
    }
    let full = app.whole_message("q", &ids[0]).await;
    assert_eq!((&full["status"], &full["worker"]), (&json!("INPROGRESS"), &json!("tester")));
    assert_eq!((&full["attempts"], &full["history"]), (&json!(1), &json!([])));
    assert!(full["started_at"].is_string(), "{full}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_is_woken_by_a_push() {
    let app = start(json!({})).await;
    let mut waiting = claim(&app, "?wait=60s&max=5").boxed();
    // It waits, however long we look.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    let id = app.push("q", &json!("wake up")).await;
    let claimed = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0]["id"], *id);
    assert_eq!(claim(&app, "?wait=50ms").await.len(), 0, "it ends when its time is over");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_is_woken_by_a_delayed_message_and_by_resume() {
    let app = start(json!({})).await;
    json(app.post("/queues/q/messages?delay=50ms", &json!("later")).await, 201).await;
    assert_eq!(claim(&app, "?wait=30s").await[0]["request"], "later");
    app.post("/queues/q/pause", &json!(null)).await;
    app.push("q", &json!("paused")).await;
    assert_eq!(claim(&app, "").await.len(), 0);
    let (claimed, _) = tokio::join!(claim(&app, "?wait=30s"), app.post("/queues/q/resume", &json!(null)));
    assert_eq!(claimed[0]["request"], "paused");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_sends_waiting_workers_home() {
    let app = start(json!({})).await;
    let request = app.request(Method::POST, "/queues/q/claim?wait=60s").send();
    let waiting = async { text(request.await.unwrap(), 200).await };
    let mut waiting = waiting.boxed();
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    let (answer, ()) =
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(waiting, app.stop()) })
            .await
            .unwrap();
    assert_eq!(answer, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_message_is_completed_once() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let claimed = &claim(&app, "").await[0];
    let heartbeat = json(call(&app, claimed, "heartbeat", json!({})).await, 200).await;
    assert_eq!(heartbeat["lease"], claimed["lease"]);
    chrono::DateTime::parse_from_rfc3339(heartbeat["expires_at"].as_str().unwrap()).unwrap();
    text(call(&app, claimed, "complete", json!({ "result": { "done": true } })).await, 204).await;
    for (late, end) in
        [("complete", json!({ "result": 2 })), ("fail", json!({ "error": 2 })), ("heartbeat", json!({}))]
    {
        refusal(call(&app, claimed, late, end).await, 409).await;
    }
    let message = app.message("q", &id).await;
    assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), &json!({ "done": true })));
    let full = app.whole_message("q", &id).await;
    assert_eq!((&full["worker"], &full["attempts"]), (&json!("tester"), &json!(1)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_final_or_tried_again_as_the_worker_says() {
    let options = json!({ "max_attempts": 3, "retry": { "base": "1h", "cap": "1h" } });
    let app = start(options).await;
    let reason = json!({ "code": 7 });
    let no_reason = json!({ "name": "Error", "message": "the worker gave no reason" });
    // What it says; whether it is final; after how many seconds it is tried again, at least and at most.
    let cases = [
        (json!({ "error": reason }), &reason, None),
        (json!({ "error": reason, "retry": false }), &reason, None),
        (json!({}), &no_reason, None),
        (json!({ "error": null }), &no_reason, None),
        (json!({ "error": reason, "retry": "10s" }), &reason, Some((9, 10))),
        (json!({ "error": reason, "retry": "0s" }), &reason, Some((0, 0))),
        (json!({ "error": reason, "retry": true }), &reason, Some((1, 3600))),
    ];
    for (said, error, again) in cases {
        let id = app.push("q", &json!(1)).await;
        let claimed = &claim(&app, "").await[0];
        assert_eq!(claimed["id"], *id);
        text(call(&app, claimed, "fail", said.clone()).await, 204).await;
        let full = app.whole_message("q", &id).await;
        assert_eq!(full["history"][0]["error"], *error, "{said}");
        assert_eq!(full["history"][0]["worker"], "tester");
        let Some((least, most)) = again else {
            assert_eq!((&full["status"], &full["error"]), (&json!("ERROR"), error), "{said}");
            continue;
        };
        assert_eq!((&full["status"], &full["error"]), (&json!("PENDING"), &json!(null)), "{said}");
        if most == 0 {
            assert_eq!(full["run_at"], json!(null));
        } else {
            let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
            let after = (time(&full["run_at"]) - time(&full["history"][0]["finished_at"])).num_seconds();
            assert!((least..=most).contains(&after), "{said}: after {after} s");
            app.elapse(Duration::from_secs(3601)).await;
        }
        let claimed = &claim(&app, "?wait=30s").await[0];
        assert_eq!((&claimed["id"], &claimed["attempt"]), (&json!(id), &json!(2)), "{said}");
        text(call(&app, claimed, "complete", json!({})).await, 204).await;
        assert_eq!(app.message("q", &id).await["result"], json!(null));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_when_the_definition_grants_no_more() {
    let app = start(json!({ "max_attempts": 2 })).await;
    let id = app.push("q", &json!(1)).await;
    for attempt in 1..=2 {
        let claimed = &claim(&app, "?wait=30s").await[0];
        assert_eq!(claimed["attempt"], attempt);
        text(call(&app, claimed, "fail", json!({ "error": attempt, "retry": "0s" })).await, 204).await;
    }
    let message = app.message("q", &id).await;
    assert_eq!((&message["status"], &message["error"]), (&json!("ERROR"), &json!(2)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_workers_message_is_claimed_again_and_its_late_end_changes_nothing() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let lost = &claim(&app, "").await[0];
    a_silent_minute(&app).await;
    for (too_late, end) in [
        ("complete", json!({ "result": "late" })),
        ("fail", json!({ "retry": true })),
        ("heartbeat", json!({})),
    ] {
        refusal(call(&app, lost, too_late, end).await, 409).await;
    }
    assert_eq!(app.message("q", &id).await["status"], "PENDING");
    let second = &claim(&app, "").await[0];
    assert_eq!((&second["id"], &second["attempt"]), (&json!(id), &json!(2)));
    assert_ne!(second["lease"], lost["lease"]);
    refusal(call(&app, lost, "complete", json!({ "result": "late" })).await, 409).await;
    assert_eq!(app.message("q", &id).await["status"], "INPROGRESS");
    text(call(&app, second, "complete", json!({ "result": "in time" })).await, 204).await;
    refusal(call(&app, lost, "complete", json!({ "result": "late" })).await, 409).await;
    let full = app.whole_message("q", &id).await;
    assert_eq!((&full["result"], &full["attempts"]), (&json!("in time"), &json!(2)));
    assert_eq!(full["history"][0]["error"]["name"], "WorkerLost");
    assert_eq!(full["history"].as_array().unwrap().len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_loses_every_worker_ends_as_worker_lost() {
    for (options, attempts) in [(json!({}), 3), (json!({ "max_attempts": 1 }), 1)] {
        let app = start(options).await;
        let id = app.push("q", &json!(1)).await;
        for attempt in 1..=attempts {
            assert_eq!(claim(&app, "?wait=30s").await[0]["attempt"], attempt);
            a_silent_minute(&app).await;
        }
        let message = app.message("q", &id).await;
        assert_eq!((&message["status"], &message["error"]["name"]), (&json!("ERROR"), &json!("WorkerLost")));
        assert_eq!(app.whole_message("q", &id).await["attempts"], attempts);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_keeps_one_lease_alive_and_no_other() {
    let app = start(json!({})).await;
    let (kept, lost) = (app.push("q", &json!(1)).await, app.push("q", &json!(2)).await);
    let claimed = claim(&app, "?max=2").await;
    for _ in 0..3 {
        // Two thirds of a lease at a time; the second message's is over after two of them.
        app.elapse(Duration::from_secs(10)).await;
        json(call(&app, &claimed[0], "heartbeat", json!({})).await, 200).await;
    }
    app.until("q", &lost, "PENDING").await;
    assert_eq!(app.message("q", &kept).await["status"], "INPROGRESS");
    text(call(&app, &claimed[0], "complete", json!({ "result": 1 })).await, 204).await;
    refusal(call(&app, &claimed[1], "complete", json!({ "result": 2 })).await, 409).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_good_for_its_own_message_alone() {
    let app = start(json!({})).await;
    app.define("other", json!({ "handler": { "kind": "worker" } })).await;
    app.push("q", &json!(1)).await;
    app.push("q", &json!(2)).await;
    let claimed = claim(&app, "?max=2").await;
    let mut crossed = claimed[0].clone();
    crossed["lease"] = claimed[1]["lease"].clone();
    let mut bent = vec![crossed];
    for lease in ["0", "-1", "", "x", "9223372036854775807", "99999999999999999999", " 1"] {
        let mut claimed = claimed[0].clone();
        claimed["lease"] = json!(lease);
        bent.push(claimed);
    }
    for bent in &bent {
        for what in ["complete", "fail", "heartbeat"] {
            refusal(call(&app, bent, what, json!({})).await, 409).await;
        }
    }
    for claimed in &claimed {
        assert_eq!(app.message("q", claimed["id"].as_str().unwrap()).await["status"], "INPROGRESS");
        let foreign = format!("/queues/other/messages/{}/complete", claimed["id"].as_str().unwrap());
        refusal(app.post(&foreign, &json!({ "lease": claimed["lease"] })).await, 404).await;
        text(call(&app, claimed, "complete", json!({})).await, 204).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_another_shape_is_told_what_is_wrong() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let claimed = &claim(&app, "").await[0];
    for body in
        ["{}", "[]", "null", "1", r#"{"lease":1}"#, r#"{"lease":null}"#, r#"{"lease":"1","lease":"2"}"#]
    {
        for what in ["complete", "fail", "heartbeat"] {
            let request = app.request(Method::POST, &format!("/queues/q/messages/{id}/{what}"));
            let request = request.header("content-type", "application/json").body(body);
            refusal(request.send().await.unwrap(), 422).await;
        }
    }
    for retry in [json!("soon"), json!(1), json!({}), json!(null), json!("10 parsecs"), json!("100000y")] {
        refusal(call(&app, claimed, "fail", json!({ "retry": retry })).await, 422).await;
    }
    for query in ["?max=0", "?max=101", "?max=x", "?wait=soon", "?wait=-1s"] {
        refusal(app.post(&format!("/queues/q/claim{query}"), &json!(null)).await, 400).await;
    }
    assert_eq!(app.message("q", &id).await["status"], "INPROGRESS");
    text(call(&app, claimed, "complete", json!({})).await, 204).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_queue_with_a_worker_handler_can_be_claimed_from() {
    let app = TestApp::start().await;
    let definitions = [
        json!({}),
        json!({ "handler": { "kind": "javascript", "source": "module.exports = m => m" } }),
        json!({ "handler": { "kind": "http", "url": "http://127.0.0.1:9/" } }),
        json!({ "handler": { "kind": "native", "name": "elsewhere" } }),
    ];
    for definition in definitions {
        app.define("q", definition).await;
        refusal(app.post("/queues/q/claim?wait=30s", &json!(null)).await, 409).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_sql_enqueued_and_nobody_can_read_ends_without_a_worker() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" }, "incoming": { "schema": {} } })).await;
    let mut db = app.connect().await;
    // PostgreSQL's `json` takes them; over HTTP nothing nests so deep.
    for json in [&("[".repeat(1000) + &"]".repeat(1000)), &("[".repeat(129) + &"]".repeat(129))] {
        let bad: uuid::Uuid = sqlx::query_scalar("SELECT enqueue('q', $1::text::json)")
            .bind(json)
            .fetch_one(&mut db)
            .await
            .unwrap();
        let good = app.push("q", &json!("good")).await;
        let claimed = claim(&app, "?max=10").await;
        assert_eq!(claimed.len(), 1, "{json}");
        assert_eq!(claimed[0]["id"], *good);
        // As it was enqueued, which no JSON reader can read here either.
        let message = text(app.get(&format!("/queues/q/messages/{bad}")).await, 200).await;
        assert!(message.contains(r#""status":"ERROR""#) && message.contains("ValidationError"), "{message}");
    }
    app.stop().await;
}

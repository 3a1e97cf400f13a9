//! What a definition's `concurrency` and `timeout` mean for remote workers.

use super::remote::{a_silent_minute, call, claim, start};
use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use futures::FutureExt as _;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_claimed_at_once_than_the_concurrency_however_many_ask_wherever() {
    const MESSAGES: usize = 60;
    let app = start(json!({ "concurrency": 3 })).await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    for n in 0..MESSAGES {
        app.push("q", &json!(n)).await;
    }
    let (held, most, done) =
        (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let mut workers = JoinSet::new();
    for n in 0..20 {
        let server = if n % 2 == 0 { &app } else { &other };
        let (client, url, token) =
            (reqwest::Client::new(), server.url.clone(), server.token(&["system_admin"]));
        let (held, most, done) = (Arc::clone(&held), Arc::clone(&most), Arc::clone(&done));
        workers.spawn(async move {
            let ask = |path: String, body: Value| {
                client.request(Method::POST, format!("{url}{path}")).bearer_auth(&token).json(&body).send()
            };
            while done.load(Ordering::SeqCst) < MESSAGES {
                let claimed = ask("/queues/q/claim?wait=1s&max=5".to_owned(), json!(null)).await.unwrap();
                let claimed: Vec<Value> = claimed.json().await.unwrap();
                let now = held.fetch_add(claimed.len(), Ordering::SeqCst) + claimed.len();
                most.fetch_max(now, Ordering::SeqCst);
                for claimed in claimed {
                    // Before it is said, so that a place is never counted twice.
                    held.fetch_sub(1, Ordering::SeqCst);
                    let path = format!("/queues/q/messages/{}/complete", claimed["id"].as_str().unwrap());
                    let ended = ask(path, json!({ "lease": claimed["lease"] })).await.unwrap();
                    assert_eq!(ended.status(), 204);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} were claimed at once");
    assert_eq!(done.load(Ordering::SeqCst), MESSAGES);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_free_again_when_a_message_ends_or_its_worker_is_lost() {
    let app = start(json!({ "concurrency": 2, "max_attempts": 1 })).await;
    for n in 0..5 {
        app.push("q", &json!(n)).await;
    }
    let first = claim(&app, "?max=10").await;
    assert_eq!(first.len(), 2);
    assert_eq!(claim(&app, "?max=10").await.len(), 0, "there is no place");
    let (third, _) =
        tokio::join!(claim(&app, "?wait=60s&max=10"), call(&app, &first[0], "complete", json!({})));
    assert_eq!(third.len(), 1);
    a_silent_minute(&app).await;
    assert_eq!(claim(&app, "?wait=60s&max=10").await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_concurrency_remote_workers_claim_as_many_as_they_ask_for() {
    let app = start(json!({})).await;
    for n in 0..5 {
        app.push("q", &json!(n)).await;
    }
    assert_eq!(claim(&app, "?max=10").await.len(), 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_heartbeat_moves_a_lease_past_the_timeout() {
    let app = start(json!({ "timeout": "20s" })).await;
    app.push("q", &json!(1)).await;
    let claimed = &claim(&app, "").await[0];
    let mut db = app.connect().await;
    let mut until = async || -> (chrono::DateTime<chrono::Utc>, bool) {
        let ask = "SELECT deadline, expires_at < deadline FROM leases";
        sqlx::query_as(ask).fetch_one(&mut db).await.unwrap()
    };
    assert!(until().await.1, "a lease is 15 s, and the timeout is not reached");
    app.elapse(Duration::from_secs(10)).await;
    let alive = json(call(&app, claimed, "heartbeat", json!({})).await, 200).await;
    let (deadline, _) = until().await;
    let expires_at = chrono::DateTime::parse_from_rfc3339(alive["expires_at"].as_str().unwrap()).unwrap();
    assert_eq!(expires_at, deadline);
    app.elapse(Duration::from_secs(11)).await;
    refusal(call(&app, claimed, "heartbeat", json!({})).await, 409).await;
    // It is tried again, as after any worker that was lost.
    let again = &claim(&app, "?wait=30s").await[0];
    assert_eq!(again["attempt"], 2);
    text(call(&app, again, "complete", json!({})).await, 204).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_shorter_than_the_lease_ends_it_and_without_one_heartbeats_go_on_for_ever() {
    let app = start(json!({ "timeout": "5s" })).await;
    app.push("q", &json!(1)).await;
    let short = &claim(&app, "").await[0];
    app.elapse(Duration::from_secs(6)).await;
    refusal(call(&app, short, "heartbeat", json!({})).await, 409).await;
    let again = &claim(&app, "?wait=30s").await[0];
    text(call(&app, again, "complete", json!({})).await, 204).await;

    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.push("q", &json!(2)).await;
    let long = &claim(&app, "").await[0];
    for _ in 0..10 {
        app.elapse(Duration::from_secs(10)).await;
        json(call(&app, long, "heartbeat", json!({})).await, 200).await;
    }
    text(call(&app, long, "complete", json!({})).await, 204).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_somebody_keeps_locked_holds_up_nobody_who_does_not_wait_and_is_not_asked_for_on_and_on()
{
    let app = start(json!({ "concurrency": 3 })).await;
    app.define("other", json!({ "handler": { "kind": "worker" }, "options": { "concurrency": 3 } })).await;
    let id = app.push("q", &json!(1)).await;
    // As a process that stands still in the middle of its claim.
    let mut still = app.connect().await;
    still
        .execute("BEGIN; SELECT FROM lanes WHERE id = (SELECT id FROM queues WHERE name = 'q') FOR UPDATE")
        .await
        .unwrap();
    let at_once = tokio::time::timeout(Duration::from_secs(30), claim(&app, "")).await;
    assert_eq!(at_once.expect("it is answered while the lane is locked").len(), 0);

    let mut waiting = claim(&app, "?wait=60s").boxed();
    let begun = claims(&app).await;
    let early = tokio::time::timeout(Duration::from_secs(5), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    // Two hundred a second for half a second, and then some with each look.
    let asked = claims(&app).await - begun;
    assert!(asked < 350, "{asked} transactions in five seconds");
    let elsewhere = app.push("other", &json!(2)).await;
    let claimed = json(app.post("/queues/other/claim?wait=30s", &json!(null)).await, 200).await;
    assert_eq!(claimed[0]["id"], *elsewhere);
    still.execute("ROLLBACK").await.unwrap();
    let claimed = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
    assert_eq!(claimed[0]["id"], *id);
    app.stop().await;
}

/// How many transactions the database has counted; what it counts comes a second late.
async fn claims(app: &TestApp) -> i64 {
    let mut db = app.connect().await;
    let counted =
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(counted).fetch_one(&mut db).await.unwrap()
}

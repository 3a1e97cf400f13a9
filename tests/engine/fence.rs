//! The fence: who has lost a claim can change nothing any more, and goes on with new ones.

use super::{Gate, Stuck, act, ask, ended, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use postrider::Failure;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::Duration;
use uuid::Uuid;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "3s");
const LONG_AGO: &str = "UPDATE workers SET heartbeat = heartbeat - interval '1 hour'";

/// Has a message run by a worker that comes to its `end` only when the message is someone else's already, and
/// still runs there.
async fn a_late(end: fn() -> Result<Value, Failure>) {
    let database = database().await;
    let (stuck, gate) = (Stuck::default(), Gate::shut());
    let first = TestApp::on(database.clone(), &[LEASE], |app| {
        app.handler("work", stuck.handler(end)).handler("mark", |_| async { Ok(json!("marked")) })
    })
    .await;
    first.define("q", work(json!({ "timeout": "10m", "max_attempts": 10 }))).await;
    first.define("marks", json!({ "handler": { "kind": "native", "name": "mark" } })).await;
    let id = first.push("q", &json!("hello")).await;
    eventually("the first worker runs it", async || stuck.running() == 1).await;
    let mut db = first.connect().await;
    let former: Uuid = ask(&mut db, "SELECT id FROM workers").await;
    act(&mut db, LONG_AGO).await;
    let second = TestApp::on(database, &[], |app| app.handler("work", gate.handler())).await;
    gate.until_running(1).await;

    // The first comes to its end, and after that runs another: its late end was dealt with before.
    stuck.release();
    eventually("the first ends", async || stuck.running() == 0).await;
    let mark = first.push("marks", &json!("mark")).await;
    assert_eq!(ended(&first, "marks", &mark).await["result"], "marked");
    let message = first.whole_message("q", &id).await;
    assert_eq!((&message["status"], &message["attempts"]), (&json!("INPROGRESS"), &json!(2)), "{message}");
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 0);
    assert_ne!(ask::<Uuid>(&mut db, "SELECT worker FROM leases").await, former);

    gate.open_up();
    assert_eq!(ended(&second, "q", &id).await["result"], 2, "the second attempt");
    let message = first.whole_message("q", &id).await;
    let history = message["history"].as_array().unwrap();
    assert_eq!(history.len(), 2, "{message}");
    assert_eq!(history[0]["error"]["name"], "WorkerLost");
    assert_eq!(history[1]["error"], json!(null));
    assert_eq!(gate.begun().len(), 1);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_worker_cannot_settle_a_reclaimed_message() {
    a_late(|| Ok(json!("late"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_worker_cannot_have_a_reclaimed_message_tried_again() {
    a_late(|| Err(Failure::Retry(json!("late"), Some(Duration::ZERO)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_given_up_stops_its_handlers_and_goes_on_under_a_new_registration() {
    let gate = Gate::shut();
    let app = TestApp::with(&[LEASE], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    let id = app.push("q", &json!("hello")).await;
    gate.until_running(1).await;
    let mut db = app.connect().await;
    act(&mut db, "DELETE FROM workers").await;
    eventually("it is claimed again", async || gate.begun().len() == 2).await;
    // Nobody let the first attempt through: it was stopped.
    gate.until_running(1).await;
    gate.open_up();
    assert_eq!(ended(&app, "q", &id).await["result"], 2, "the second attempt");
    assert_eq!(gate.runs().into_values().sum::<usize>(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_by_a_worker_that_is_given_up_before_it_loads_does_not_run() {
    let gate = Gate::open();
    let app = TestApp::with(&[LEASE], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let id = app.push("q", &json!("hello")).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    // A claim needs dispatch and leases alone; loading needs the message.
    let mut lock = holder.begin().await.unwrap();
    act(&mut lock, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await;
    assert_eq!(app.post("/queues/q/resume", &json!(null)).await.status(), 200);
    eventually("it is claimed", async || ask::<i64>(&mut db, "SELECT count(*) FROM leases").await == 1).await;
    let former: Uuid = ask(&mut db, "SELECT id FROM workers").await;
    act(&mut db, LONG_AGO).await;
    eventually("it registers anew", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM workers WHERE heartbeat > now() - lease").await == 1
            && ask::<Uuid>(&mut db, "SELECT id FROM workers ORDER BY heartbeat DESC LIMIT 1").await != former
    })
    .await;
    lock.commit().await.unwrap();
    assert_eq!(ended(&app, "q", &id).await["result"], 2, "the reclaim counts as an attempt");
    assert_eq!(gate.begun().len(), 1, "the claim that was lost ran nothing");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_is_stopped_in_its_second_attempt_too() {
    let (stuck, gate) = (Stuck::default(), Gate::shut());
    let (first, second) = (stuck.handler(|| Ok(json!("late"))), gate.handler());
    let app = TestApp::with(&[LEASE], |app| {
        app.handler(
            "work",
            move |message: postrider::Message| {
                if message.attempt == 1 { first(message) } else { second(message) }
            },
        )
    })
    .await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    let id = app.push("q", &json!("hello")).await;
    eventually("the first attempt runs", async || stuck.running() == 1).await;
    act(&mut app.connect().await, "DELETE FROM workers").await;
    gate.until_running(1).await;
    // The end of the first attempt, which could not be stopped, is not the end of the second.
    stuck.release();
    eventually("the first attempt ends", async || stuck.running() == 0).await;
    let marker = app.push("q", &json!("the first attempt's end was dealt with before this")).await;
    eventually("another runs in its place", async || {
        gate.begun().len() == 1 && { app.message("q", &marker).await["status"] == "COMPLETE" }
    })
    .await;
    assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    gate.until_running(0).await;
    app.stop().await;
}

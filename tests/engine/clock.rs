//! The database's clock is set: stamps that lie in the future are over, and nobody is given up before whoever lives
//! has renewed under the new time.

use super::{act, ask, ended, work};
use crate::support::app::TestApp;
use crate::support::eventually;
use postrider::internals::worker::store::{leave_duty, take_duty};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "3s");

/// What a dead worker leaves behind, whose last sign of life was stamped an hour from now.
const FROM_THE_FUTURE: &str = "
    INSERT INTO workers (id, name, lease, capacity, heartbeat, clock_at)
    SELECT gen_random_uuid(), 'dead', '3 seconds', 1, now() + interval '1 hour', now() + interval '1 hour'";
/// It holds what is ready.
const HOLDS: &str = "
    WITH taken AS (DELETE FROM dispatch RETURNING lane, rank, item)
    INSERT INTO leases (worker, lane, ranks, items, attempts)
    SELECT (SELECT id FROM workers WHERE name = 'dead'), lane, ARRAY[rank], ARRAY[item], '{1}' FROM taken";

/// An app with a message that a dead worker holds, which `dies` makes.
async fn held_by_the_dead(dies: &'static str) -> (TestApp, String) {
    let app = TestApp::with(&[LEASE], |app| app.handler("work", |_| async { Ok(json!("done")) })).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &Value::Null).await;
    let id = app.push("q", &json!("hello")).await;
    let mut db = app.connect().await;
    eventually("it is registered", async || ask::<i64>(&mut db, "SELECT count(*) FROM workers").await == 1)
        .await;
    act(&mut db, dies).await;
    assert_eq!(act(&mut db, HOLDS).await, 1);
    app.post("/queues/q/resume", &Value::Null).await;
    (app, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_holds_comes_back_though_it_was_stamped_before_the_clock_was_set_back() {
    let (app, id) = held_by_the_dead(FROM_THE_FUTURE).await;
    assert_eq!(ended(&app, "q", &id).await["result"], "done");
    let message = app.whole_message("q", &id).await;
    assert_eq!(
        (&message["attempts"], &message["history"][0]["error"]["name"]),
        (&json!(2), &json!("WorkerLost"))
    );
    let mut db = app.connect().await;
    eventually("it is buried", async || ask::<i64>(&mut db, "SELECT count(*) FROM workers").await == 1).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_workers_lease_does_not_outlive_a_clock_that_was_set_back() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push("q", &json!("hello")).await;
    assert_eq!(app.post("/queues/q/claim", &Value::Null).await.status(), 200);
    assert_eq!(app.message("q", &id).await["status"], "INPROGRESS");
    let mut db = app.connect().await;
    act(&mut db, "UPDATE leases SET expires_at = expires_at + interval '1 hour'").await;
    // As the processes have noted that live.
    act(&mut db, "UPDATE workers SET steady_since = now() - interval '1 hour'").await;
    eventually("it is taken back", async || app.message("q", &id).await["status"] == "PENDING").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_clock_was_set_whoever_lives_has_a_whole_lease_to_renew() {
    let silent = "
        INSERT INTO workers (id, name, lease, capacity, heartbeat)
        SELECT gen_random_uuid(), 'dead', '1 hour', 1, now() - interval '2 hours'";
    let (app, id) = held_by_the_dead(silent).await;
    // Nobody saw the clock being set: it is dead at once.
    assert_eq!(ended(&app, "q", &id).await["result"], "done");
    app.stop().await;

    let app = TestApp::with(&[LEASE], |app| app.handler("work", |_| async { Ok(json!("done")) })).await;
    app.define("q", work(json!({}))).await;
    let mut db = app.connect().await;
    eventually("it is registered", async || ask::<i64>(&mut db, "SELECT count(*) FROM workers").await == 1)
        .await;
    act(&mut db, "UPDATE workers SET steady_since = now() - interval '59 minutes'").await;
    app.post("/queues/q/pause", &Value::Null).await;
    let id = app.push("q", &json!("hello")).await;
    act(&mut db, silent).await;
    assert_eq!(act(&mut db, HOLDS).await, 1);
    app.post("/queues/q/resume", &Value::Null).await;
    let mark = app.push("q", &json!("it goes on")).await;
    assert_eq!(ended(&app, "q", &mark).await["result"], "done");
    app.server.run_until_idle().await.unwrap();
    assert_eq!(app.message("q", &id).await["status"], "INPROGRESS", "it may still renew");
    act(&mut db, "UPDATE workers SET steady_since = now() - interval '61 minutes' WHERE name <> 'dead'")
        .await;
    assert_eq!(ended(&app, "q", &id).await["result"], "done");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_that_was_taken_before_the_clock_was_set_back_is_anybodys() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    let (former, next) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(take_duty(&mut db, "duty", former, 60.0).await.unwrap());
    assert!(!take_duty(&mut db, "duty", next, 60.0).await.unwrap());
    act(&mut db, "UPDATE duties SET until = until + interval '1 hour'").await;
    assert!(take_duty(&mut db, "duty", next, 60.0).await.unwrap());
    assert!(!take_duty(&mut db, "duty", former, 60.0).await.unwrap());
    leave_duty(&mut db, "duty", next).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while !take_duty(&mut db, "duty", former, 60.0).await.unwrap() {}
    })
    .await
    .unwrap();
    app.stop().await;
}

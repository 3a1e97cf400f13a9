//! Lost workers: what they held runs again, and only that.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "3s");

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_counts_as_an_attempt_and_the_third_is_the_last() {
    let gate = Gate::shut();
    let app = TestApp::with(&[LEASE], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let id = app.push("q", &json!("deadly")).await;
    for attempt in 1..=3 {
        eventually("it runs", async || gate.begun().len() == attempt && gate.running() == 1).await;
        assert_eq!(app.message("q", &id).await["status"], "INPROGRESS");
        act(&mut app.connect().await, "DELETE FROM workers").await;
    }
    let message = ended(&app, "q", &id).await;
    assert_eq!(message["status"], "ERROR");
    assert_eq!(message["error"]["name"], "WorkerLost");
    let history = app.whole_message("q", &id).await["history"].take();
    let history: Vec<(i64, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["attempt"].as_i64().unwrap(), entry["error"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(history, [(1, "WorkerLost"), (2, "WorkerLost"), (3, "WorkerLost")]);
    assert_eq!(gate.begun().len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_settled_lease_gives_back_only_what_has_not_ended() {
    let gate = Gate::shut();
    let held = gate.handler();
    let handler = move |message: Message| -> super::Handled {
        match message.request.get() {
            "\"ends\"" => Box::pin(async { Ok(json!("ended")) }),
            "\"fails\"" => Box::pin(async { Err(Failure::Reject(json!("failed"))) }),
            "\"waits\"" if message.attempt == 1 => {
                Box::pin(async { Err(Failure::Retry(json!("later"), Some(Duration::from_hours(1)))) })
            }
            _ => held(message),
        }
    };
    let app = TestApp::with(&[LEASE], |app| app.handler("work", handler)).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 8 }))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let bodies = ["ends", "fails", "waits", "runs", "runs"].map(Value::from);
    let ids = push_all(&app, "/queues/q/messages:batch", &bodies).await;
    app.post("/queues/q/resume", &json!(null)).await;
    gate.until_running(2).await;
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM leases").await, 1, "they are one lease");
    assert_eq!(ended(&app, "q", &ids[0]).await["result"], "ended");
    assert_eq!(ended(&app, "q", &ids[1]).await["error"], "failed");
    eventually("one waits", async || ask::<i64>(&mut db, "SELECT count(*) FROM scheduled").await == 1).await;

    act(&mut db, "DELETE FROM workers").await;
    eventually("the others begin again", async || gate.begun().len() == 4).await;
    gate.open_up();
    for id in &ids[3..] {
        assert_eq!(ended(&app, "q", id).await["result"], 2, "the second attempt");
    }
    app.server.run_until_idle().await.unwrap();
    let runs = gate.runs();
    assert_eq!(runs.len(), 2, "what had ended did not run again");
    assert!(ids[3..].iter().all(|id| runs[&id.parse::<Uuid>().unwrap()] == 2));
    let waiting = app.whole_message("q", &ids[2]).await;
    assert_eq!(waiting["status"], "PENDING");
    assert_eq!(waiting["history"].as_array().unwrap().len(), 1, "{waiting}");
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM scheduled").await, 1);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM leases").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopping_worker_cannot_finish_runs_elsewhere_at_once() {
    let database = database().await;
    let (first_gate, second_gate) = (Gate::shut(), Gate::open());
    // A lease that does not run out in the time of this test.
    let lease = [("POSTRIDER_LEASE", "1h")];
    let first = TestApp::on(database.clone(), &lease, |app| app.handler("work", first_gate.handler())).await;
    first.define("q", work(json!({ "timeout": "10m" }))).await;
    let id = first.push("q", &json!("hello")).await;
    first_gate.until_running(1).await;
    let second = TestApp::on(database, &lease, |app| app.handler("work", second_gate.handler())).await;
    first.server.stop_within(Duration::ZERO).await;
    assert_eq!(first_gate.running(), 0, "it was stopped");
    assert_eq!(ended(&second, "q", &id).await["result"], 1, "the attempt that was given back does not count");
    let message = second.whole_message("q", &id).await;
    assert_eq!(
        (&message["attempts"], &message["history"][0]["error"]["name"]),
        (&json!(1), &json!("GivenBack"))
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_worker_keeps_its_lease_until_its_last_message_has_ended() {
    let database = database().await;
    let gate = Gate::shut();
    let first = TestApp::on(database.clone(), &[LEASE], |app| app.handler("work", gate.handler())).await;
    first.define("q", work(json!({ "timeout": "10m" }))).await;
    let id = first.push("q", &json!("hello")).await;
    gate.until_running(1).await;
    // It cannot run the message, but would take it back.
    let second = TestApp::on(database, &[LEASE], |app| app).await;
    let mut db = second.connect().await;
    let lived = "SELECT extract(epoch FROM max(heartbeat) - min(started_at))::float8 FROM workers \
                 WHERE id IN (SELECT worker FROM leases)";
    let before: f64 = ask(&mut db, lived).await;
    tokio::join!(first.stop(), async {
        eventually("its heartbeat goes on for longer than its lease", async || {
            ask::<Option<f64>>(&mut db, lived).await.expect("it holds the lease") > before + 4.0
        })
        .await;
        gate.open_up();
    });
    let message = second.whole_message("q", &id).await;
    assert_eq!((&message["status"], &message["attempts"]), (&json!("COMPLETE"), &json!(1)));
    second.stop().await;
}

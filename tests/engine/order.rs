//! The order of claims: priority, then push; nothing is passed over for good, whoever made it and when.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::Duration;

/// More than the claim loop takes one by one between two looks below its mark.
const BACKLOG: usize = 2000;

fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(Value::from).collect()
}

/// Lets the backlog through one by one until `what` has begun; returns its place in the order.
async fn place_of(gate: &Gate, what: &Value) -> usize {
    for _ in 0..BACKLOG {
        let before = gate.begun().len();
        if let Some(place) = gate.begun().iter().position(|begun| begun.request == *what) {
            return place;
        }
        gate.let_through(1);
        eventually("the next one begins", async || gate.begun().len() > before).await;
    }
    panic!("{what} is not claimed before the backlog");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_is_priority_and_then_push() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    for (priority, first) in [(0, 0), (-100, 10), (100, 20), (0, 30)] {
        let path = format!("/queues/q/messages:batch?priority={priority}");
        push_all(&app, &path, &[json!(first), json!(first + 1), json!(first + 2)]).await;
    }
    app.post("/queues/q/resume", &json!(null)).await;
    eventually("all ran", async || gate.begun().len() == 12).await;
    let order: Vec<Value> = gate.begun().into_iter().map(|begun| begun.request).collect();
    assert_eq!(json!(order), json!([20, 21, 22, 0, 1, 2, 30, 31, 32, 10, 11, 12]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tried_more_often_than_can_be_counted_is_claimed_again() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    push_all(&app, "/queues/q/messages:batch", &numbers(2)).await;
    let mut db = app.connect().await;
    act(&mut db, "UPDATE dispatch SET attempt = 32767").await;
    app.post("/queues/q/resume", &json!(null)).await;
    eventually("both ran", async || gate.begun().len() == 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_claimed_before_the_backlog_that_came_after_it() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let mut other = app.connect().await;
    let mut late = other.begin().await.unwrap();
    act(&mut late, "SELECT enqueue('q', '\"late\"')").await;
    push_all(&app, "/queues/q/messages:batch", &numbers(BACKLOG)).await;
    // The claims are past its place already.
    gate.let_through(9);
    eventually("ten began", async || gate.begun().len() == 10).await;
    assert!(gate.begun().iter().all(|begun| begun.request != "late"), "it is not committed");
    late.commit().await.unwrap();
    let place = place_of(&gate, &json!("late")).await;
    assert!(place >= 10);
    gate.open_up();
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), BACKLOG + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_found_though_nothing_else_is_there() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    let mut other = app.connect().await;
    let mut late = other.begin().await.unwrap();
    act(&mut late, "SELECT enqueue('q', '\"late\"')").await;
    push_all(&app, "/queues/q/messages:batch", &numbers(10)).await;
    eventually("the others ran", async || gate.begun().len() == 10).await;
    late.commit().await.unwrap();
    eventually("it runs", async || gate.begun().iter().any(|begun| begun.request == "late")).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_priority_from_another_instance_is_claimed_before_the_backlog() {
    let database = database().await;
    let gate = Gate::shut();
    let app = TestApp::on(database.clone(), &[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    push_all(&app, "/queues/q/messages:batch", &numbers(BACKLOG)).await;
    gate.let_through(9);
    eventually("ten began", async || gate.begun().len() == 10).await;
    // An instance without the handler: it pushes and does not claim.
    let other = TestApp::on(database, &[], |app| app).await;
    push_all(&other, "/queues/q/messages:batch?priority=5", &[json!("urgent")]).await;
    place_of(&gate, &json!("urgent")).await;
    // And one from here goes before all that waits.
    let begun = gate.begun().len();
    push_all(&app, "/queues/q/messages:batch?priority=7", &[json!("most urgent")]).await;
    gate.let_through(1);
    eventually("the next one begins", async || gate.begun().len() == begun + 1).await;
    assert_eq!(gate.begun()[begun].request, "most urgent");
    gate.open_up();
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_scheduled_messages_wait_apart_and_then_all_run() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "concurrency": 100 }))).await;
    let ids = push_all(&app, "/queues/q/messages:batch?delay=1h", &numbers(5000)).await;
    let now = app.push("q", &json!("now")).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(app.message("q", &now).await["status"], "COMPLETE");
    let mut db = app.connect().await;
    assert_eq!(gate.begun().len(), 1, "nothing runs before its time");
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 0, "the claim does not see them");
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM scheduled").await, 5000);
    app.elapse(Duration::from_mins(59)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 1);
    app.elapse(Duration::from_mins(1)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 5001);
    assert_eq!(gate.runs().len(), 5001, "each once");
    for id in [&ids[0], &ids[4999]] {
        assert_eq!(ended(&app, "q", id).await["status"], "COMPLETE");
    }
    let left = "SELECT (SELECT count(*) FROM scheduled) + (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM leases)";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    app.stop().await;
}

//! DELETE: a message that waits never runs, one that runs is stopped and its end dropped.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::gate::Gate;
use serde_json::json;

async fn delete(app: &TestApp, queue: &str, id: &str) {
    let path = format!("/queues/{queue}/messages/{id}");
    let response = app.delete(&path).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.text().await.unwrap(), "");
    refusal(app.get(&path).await, 404).await;
    refusal(app.delete(&path).await, 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_deleted_while_it_waits_never_runs() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "gate" } })).await;
    let first = app.push("q", &json!(1)).await;
    let deleted = app.push("q", &json!(2)).await;
    let last = app.push("q", &json!(3)).await;
    app.until("q", &first, "INPROGRESS").await;
    delete(&app, "q", &deleted).await;
    // Two may pass: if the deleted one ran, the last could not.
    gate.pass(2);
    assert_eq!(app.ended("q", &last).await["result"]["message"], 3);
    app.server.run_until_idle().await.unwrap();
    refusal(app.get(&format!("/queues/q/messages/{deleted}")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_deleted_while_it_waits_for_its_time_never_runs() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "gate" } })).await;
    let delayed = json(app.post("/queues/q/messages?delay=1h", &json!(1)).await, 201).await;
    delete(&app, "q", delayed["id"].as_str().unwrap()).await;
    app.elapse(std::time::Duration::from_secs(3601)).await;
    gate.pass(1);
    assert_eq!(app.handled("q", &json!(2)).await["result"]["message"], 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_attempt_is_dropped_when_its_message_is_deleted() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "gate" } })).await;
    let running = app.push("q", &json!(1)).await;
    let next = app.push("q", &json!(2)).await;
    gate.reached_by(1).await;
    delete(&app, "q", &running).await;
    gate.reached_by(2).await;
    gate.pass(1);
    assert_eq!(app.ended("q", &next).await["result"]["message"], 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_a_process_that_hears_nothing_is_dropped_with_its_next_heartbeat() {
    let gate = Gate::closed();
    let other = TestApp::start().await;
    // Nothing listens there, so it is told nothing.
    let deaf = [
        ("DATABASE_URL", "postgres://ignored"),
        ("POSTRIDER_LISTEN_URL", "postgres://nobody@127.0.0.1:9/none"),
        ("POSTRIDER_LEASE", "3s"),
    ];
    let app = TestApp::on(other.database.clone(), &deaf, |app| app.handler("gate", gate.handler())).await;
    let handler = json!({ "kind": "native", "name": "gate" });
    app.define("q", json!({ "handler": handler, "options": { "timeout": "1h" } })).await;
    let running = app.push("q", &json!(1)).await;
    let next = app.push("q", &json!(2)).await;
    gate.reached_by(1).await;
    eventually("the other knows the queue", async || {
        other.get(&format!("/queues/q/messages/{running}")).await.status() == 200
    })
    .await;
    delete(&other, "q", &running).await;
    gate.reached_by(2).await;
    gate.pass(1);
    assert_eq!(app.ended("q", &next).await["result"]["message"], 2);
    let mut db = app.connect().await;
    eventually("it is told no more", async || {
        let told = "SELECT count(*) FROM workers WHERE stops <> '{}'";
        sqlx::query_scalar::<_, i64>(told).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    app.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_handler_is_stopped_when_its_message_is_deleted() {
    let app = TestApp::start().await;
    let source = "module.exports = m => { while (m === 'for ever'); return m }";
    let handler = json!({ "kind": "javascript", "source": source });
    app.define("q", json!({ "handler": handler, "options": { "timeout": "1h" } })).await;
    app.define("neighbour", json!({ "handler": handler })).await;
    let endless = app.push("q", &json!("for ever")).await;
    let next = app.push("q", &json!("next")).await;
    app.until("q", &endless, "INPROGRESS").await;
    let neighbour = app.push("neighbour", &json!("beside")).await;
    assert_eq!(app.ended("neighbour", &neighbour).await["result"], "beside");
    assert_eq!(app.message("q", &endless).await["status"], "INPROGRESS");
    delete(&app, "q", &endless).await;
    assert_eq!(app.ended("q", &next).await["result"], "next");
    refusal(app.get(&format!("/queues/q/messages/{endless}")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_end_of_a_remote_worker_is_dropped_when_its_message_is_deleted() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let running = app.push("q", &json!(1)).await;
    let next = app.push("q", &json!(2)).await;
    let claimed = json(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    assert_eq!(claimed[0]["id"], *running);
    delete(&app, "q", &running).await;
    let path = format!("/queues/q/messages/{running}");
    let lease = &claimed[0]["lease"];
    for (call, end) in [
        ("heartbeat", json!({ "lease": lease })),
        ("complete", json!({ "lease": lease, "result": 1 })),
        ("fail", json!({ "lease": lease, "retry": true })),
    ] {
        refusal(app.post(&format!("{path}/{call}"), &end).await, 404).await;
    }
    refusal(app.get(&path).await, 404).await;
    let claimed = json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    assert_eq!(claimed.as_array().unwrap().len(), 1);
    assert_eq!(claimed[0]["id"], *next);
    // Nor does the dead lease bring it back.
    app.elapse(std::time::Duration::from_mins(1)).await;
    eventually("the leases are over", async || {
        let mut db = app.connect().await;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM leases").fetch_one(&mut db).await.unwrap();
        left == 0
    })
    .await;
    let claimed = json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    assert_eq!((claimed.as_array().unwrap().len(), &claimed[0]["id"]), (1, &json!(next)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_deleted_after_its_end_is_gone_with_its_history() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = () => { throw 'no' }").await;
    let id = app.push("q", &json!(1)).await;
    app.ended("q", &id).await;
    json(app.post(&format!("/queues/q/messages/{id}/retry"), &json!(null)).await, 200).await;
    app.ended("q", &id).await;
    delete(&app, "q", &id).await;
    refusal(app.post(&format!("/queues/q/messages/{id}/retry"), &json!(null)).await, 404).await;
    let mut db = app.connect().await;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM outcomes) + (SELECT count(*) FROM attempts)",
    )
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert_eq!(left, 0);
    app.stop().await;
}

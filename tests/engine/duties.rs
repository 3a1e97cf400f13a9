//! The loops of the engine: none waits for another, and each that does not do its duty is named.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_promoted_what_is_ready_runs_and_readyz_names_the_promotion() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "concurrency": 1 }))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let later = push_all(&app, "/queues/q/messages:batch?delay=1s", &[json!("later")]).await;
    let messages: Vec<Value> = (0..20).map(Value::from).collect();
    let ids = push_all(&app, "/queues/q/messages:batch", &messages).await;
    let mut db = app.connect().await;
    let mut tx = db.begin().await.unwrap();
    // As a migration or a backup might; reading it stays possible.
    act(&mut tx, "LOCK TABLE scheduled IN EXCLUSIVE MODE").await;
    let mut other = app.connect().await;
    let overdue = "SELECT now() > run_at FROM scheduled";
    eventually("one is due", async || ask::<bool>(&mut other, overdue).await).await;
    app.post("/queues/q/resume", &json!(null)).await;
    for id in &ids {
        assert_eq!(ended(&app, "q", id).await["status"], "COMPLETE");
    }
    let mut ready = Value::Null;
    eventually("it is noticed", async || {
        ready = app.get("/readyz").await.json().await.unwrap();
        ready["status"] == "unready"
    })
    .await;
    assert_eq!(ready["red"], json!(["promotion"]), "all others do their duty");
    tx.commit().await.unwrap();
    assert_eq!(ended(&app, "q", &later[0]).await["status"], "COMPLETE");
    eventually("it is ready again", async || app.get("/readyz").await.status() == 200).await;
    app.stop().await;
}

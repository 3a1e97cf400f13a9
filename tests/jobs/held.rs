//! A transaction that says something about a job and stays open: it holds up that job, and nothing else.

use super::{ann, ok, worker};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn while_broadcast_is_not_committed_the_lost_job_waits_and_everything_else_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("twice_jobs.jobs.json"), r#"{"attempts": 2}"#).unwrap();
    let settings = [("POSTRIDER_QUEUES_DIR", directory.path().to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app.handler("work", |_| async { Ok(json!(null)) })).await;
    let native = json!({ "handler": { "kind": "native", "name": "work" } });
    app.define("unrelated", native).await;
    let (ann, worker) = (ann(&app), worker(&app));
    let created = ok(ann.post("/twice_jobs", &json!({ "cardholder_id": 7 })).await).await;
    let id = created["id"].as_i64().unwrap();
    ok(worker.post("/twice_jobs/claim?wait=20s", &json!({})).await).await;
    let mut db = app.connect().await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SELECT broadcast($1, '{\"status\": \"UPDATING\"}')")
        .bind(id)
        .execute(&mut *tx)
        .await
        .unwrap();
    // Its worker is lost: the lease is over.
    let mut other = app.connect().await;
    let over = "UPDATE leases SET expires_at = now() - interval '1 s'";
    sqlx::raw_sql(over).execute(&mut other).await.unwrap();

    // For longer than a session waits for a lock: whoever waited for the job would keep one of these waiting.
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(12) {
        let pushed_at = Instant::now();
        let pushed = app.push("unrelated", &json!(1)).await;
        assert_eq!(app.ended("unrelated", &pushed).await["status"], "COMPLETE");
        longest = longest.max(pushed_at.elapsed());
    }
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    let claimed: i64 = sqlx::query_scalar("SELECT count(*) FROM leases").fetch_one(&mut other).await.unwrap();
    assert_eq!(claimed, 1, "the job is held still");
    tx.commit().await.unwrap();
    let mut job = Value::Null;
    eventually("the job comes back", async || {
        job = ok(ann.get(&format!("/twice_jobs/{id}")).await).await;
        job["status"] == "REQUESTED"
    })
    .await;
    let again = ok(worker.post("/twice_jobs/claim?wait=20s", &json!({})).await).await;
    assert_eq!(again[0]["id"], id, "{again}");
    app.stop().await;
}

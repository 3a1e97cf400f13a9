//! What time does: questions and jobs time out, cancelled jobs end, workers are lost, keys and messages expire.

use super::{JOBS, ann, channel, ok, refused, statuses, worker};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Waits until a job has ended, and reads it.
async fn ended(app: &TestApp, id: i64) -> Value {
    let ann = ann(app);
    let mut job = Value::Null;
    eventually("the job ends", async || {
        job = ok(ann.get(&format!("{JOBS}/{id}")).await).await;
        job["termination_type"].is_string()
    })
    .await;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_nobody_answers_ends_the_job_and_every_subscriber_learns_it() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    for (kind, status) in [("tfa_request", "TIMEOUT_TFA"), ("credential_request", "TIMEOUT_CREDENTIALS")] {
        let (id, key) = ann.create().await;
        let other = ann.register(id).await;
        worker.claim().await;
        let envelope = worker.ask(id, kind).await;
        for _ in 0..5 {
            // Asking for the answer is a heartbeat, so that the worker is not lost first.
            ok(worker.get(&format!("{}/credential_responses", channel(id))).await).await;
            app.elapse(Duration::from_secs(49)).await;
        }
        let answer = json!({ "envelope_id": envelope, "message": "1234" });
        let answer = ann.post(&format!("{}/credential_responses", channel(id)), &answer).await;
        refused(&answer, StatusCode::GONE);
        let job = ended(&app, id).await;
        assert_eq!((&job["status"], &job["termination_type"]), (&json!(status), &json!("USER_DATA_FAILURE")));
        for key in [key, other] {
            let log = ann.poll(id, &key, "").await;
            let last = log.last().unwrap();
            assert_eq!(last["message"]["status"], status);
            assert_eq!(last["message"]["termination_type"], "USER_DATA_FAILURE");
            assert_eq!(last["message"]["percent_complete"], 100);
        }
        let late = worker.put(&format!("{JOBS}/{id}"), &json!({ "status": "UPDATING" })).await;
        refused(&late, StatusCode::CONFLICT);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_long_ends() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    app.elapse(Duration::from_hours(2)).await;
    let (_, lease) = worker.claim().await;
    app.elapse(Duration::from_secs(50)).await;
    for _ in 0..5 {
        // A call with the lease is a heartbeat, so that the worker is not lost first.
        worker.say(id, &json!({ "status": "UPDATING", "lease": lease })).await;
        app.elapse(Duration::from_secs(50)).await;
    }
    assert_eq!(ended(&app, id).await["status"], "VBS_TIMEOUT");
    let log = ann.poll(id, &key, "").await;
    assert_eq!(log.last().unwrap()["message"]["termination_type"], "PROCESS_FAILURE");
    let left: Vec<i64> = log.iter().map(|m| m["message"]["job_timeout"].as_i64().unwrap()).collect();
    assert!(left.windows(2).all(|pair| pair[0] > pair[1]) && *left.last().unwrap() == 0, "{left:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_at_once_or_by_its_worker_or_after_a_grace_period() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let cancel = json!({ "status": "CANCEL_REQUESTED" });
    let (waiting, key) = ann.create().await;
    let job = ok(ann.put(&format!("{JOBS}/{waiting}"), &cancel).await).await;
    assert_eq!((&job["status"], &job["termination_type"]), (&json!("CANCELED"), &json!("NEVER_STARTED")));
    assert_eq!(statuses(&ann.poll(waiting, &key, "").await), ["CANCELED"]);
    assert_eq!(ok(worker.post(&format!("{JOBS}/claim"), &json!({})).await).await, json!([]));

    let (heeded, _) = ann.create().await;
    let (ignored, key) = ann.create().await;
    worker.claim().await;
    worker.claim().await;
    for id in [heeded, ignored] {
        let job = ok(ann.put(&format!("{JOBS}/{id}"), &cancel).await).await;
        assert_eq!((&job["status"], &job["cancel_requested"]), (&json!("CANCEL_REQUESTED"), &json!(true)));
        ok(ann.put(&format!("{JOBS}/{id}"), &cancel).await).await;
    }
    let seen = worker.get(&format!("{}/credential_responses", channel(heeded))).await;
    assert_eq!(seen.headers()["x-postrider-cancel"], "requested");
    worker.say(heeded, &json!({ "status": "CANCELED", "termination_type": "USER_DATA_FAILURE" })).await;
    let job = ok(worker.put(&format!("{JOBS}/{ignored}"), &json!({ "status": "UPDATING" })).await).await;
    assert_eq!(job["cancel_requested"], true);
    app.elapse(Duration::from_secs(31)).await;
    assert_eq!(ended(&app, ignored).await["status"], "CANCELED");
    assert_eq!(statuses(&ann.poll(ignored, &key, "").await), ["CANCEL_REQUESTED", "UPDATING", "CANCELED"]);
    refused(&ann.put(&format!("{JOBS}/{ignored}"), &cancel).await, StatusCode::CONFLICT);

    let (kept, key) = ann.create().await;
    worker.claim().await;
    ok(ann.put(&format!("{JOBS}/{kept}"), &cancel).await).await;
    let job = ok(ann.put(&format!("{JOBS}/{kept}"), &json!({ "status": "REQUESTED" })).await).await;
    assert_eq!(job["cancel_requested"], false);
    assert_eq!(statuses(&ann.poll(kept, &key, "").await), ["CANCEL_REQUESTED", "REQUESTED"]);
    let other = ann.put(&format!("{JOBS}/{kept}"), &json!({ "status": "UPDATING" })).await;
    refused(&other, StatusCode::FORBIDDEN);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_ends_its_job_and_can_change_nothing_any_more() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    let (_, lease) = worker.claim().await;
    app.elapse(Duration::from_secs(61)).await;
    let job = ended(&app, id).await;
    assert_eq!((&job["status"], &job["termination_type"]), (&json!("VBS_ERROR"), &json!("PROCESS_FAILURE")));
    let late = worker.put(&format!("{JOBS}/{id}"), &json!({ "status": "UPDATING", "lease": lease })).await;
    refused(&late, StatusCode::CONFLICT);
    assert_eq!(statuses(&ann.poll(id, &key, "").await), ["VBS_ERROR"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_again_when_its_type_allows_and_the_lost_worker_is_fenced() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("import_jobs.jobs.json"), r#"{"attempts": 2}"#).unwrap();
    let settings = [("POSTRIDER_QUEUES_DIR", directory.path().to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app).await;
    let (ann, worker) = (ann(&app), worker(&app));
    let job = ok(ann.post("/import_jobs", &json!({ "cardholder_id": 7 })).await).await;
    let (id, path) = (job["id"].as_i64().unwrap(), format!("/import_jobs/{}", job["id"]));
    let claim = async || {
        let claimed = ok(worker.post("/import_jobs/claim?wait=30s", &json!({})).await).await;
        assert_eq!(claimed[0]["id"], id);
        claimed[0]["lease"].clone()
    };
    let first = claim().await;
    ok(worker.put(&path, &json!({ "status": "AUTH", "percent_complete": 50, "lease": first })).await).await;
    app.elapse(Duration::from_secs(61)).await;
    let second = claim().await;
    assert_ne!(first, second);
    let stale = worker.put(&path, &json!({ "status": "UPDATING", "lease": first })).await;
    refused(&stale, StatusCode::CONFLICT);
    let stale = worker.request(Method::GET, &path).header("x-postrider-lease", first.as_str().unwrap());
    refused(&stale.send().await.unwrap(), StatusCode::CONFLICT);
    let job = ok(worker.put(&path, &json!({ "status": "AUTH", "lease": second })).await).await;
    assert_eq!(job["percent_complete"], 0);
    app.elapse(Duration::from_secs(61)).await;
    eventually("the second loss ends it", async || ok(ann.get(&path).await).await["status"] == "VBS_ERROR")
        .await;

    // One that was to be cancelled does not run again.
    let job = ok(ann.post("/import_jobs", &json!({ "cardholder_id": 7 })).await).await;
    let path = format!("/import_jobs/{}", job["id"]);
    ok(worker.post("/import_jobs/claim?wait=30s", &json!({})).await).await;
    ok(ann.put(&path, &json!({ "status": "CANCEL_REQUESTED" })).await).await;
    app.elapse(Duration::from_secs(61)).await;
    eventually("the cancelled job ends", async || ok(ann.get(&path).await).await["status"] == "CANCELED")
        .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_live_an_hour_and_keys_an_hour_longer_than_their_job() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, key) = ann.create().await;
    let reader = ann.register(id).await;
    worker.claim().await;
    worker.say(id, &json!({ "status": "AUTH" })).await;
    worker.say(id, &json!({ "status": "UPDATING" })).await;
    app.elapse(Duration::from_secs(50)).await;
    let mut db = app.connect().await;
    sqlx::query("UPDATE broadcasts SET created_at = created_at - interval '1 hour'")
        .execute(&mut db)
        .await
        .unwrap();
    worker.say(id, &json!({ "status": "DONE", "termination_type": "BILLABLE" })).await;
    let log = ann.poll(id, &key, "?after=0").await;
    assert_eq!(log[0], json!({ "type": "gap", "job_id": id, "seq": 2, "message": { "from": 1, "to": 2 } }));
    assert_eq!((log.len(), &log[1]["seq"]), (2, &json!(3)));
    assert_eq!(ann.poll(id, &key, "?after=2").await.len(), 1, "no gap where nothing is missing");
    let log = ann.poll(id, &reader, "").await;
    assert_eq!((&log[0]["type"], &log[1]["message"]["status"]), (&json!("gap"), &json!("DONE")));
    app.elapse(Duration::from_mins(61)).await;
    let poll = ann.request(Method::GET, &format!("{}/broadcasts", channel(id)));
    let over = poll.header("cardsavr-messaging-access-key", &key).send().await.unwrap();
    refused(&over, StatusCode::UNAUTHORIZED);
    app.stop().await;
}

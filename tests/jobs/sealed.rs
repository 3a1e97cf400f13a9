//! What a job's creator tells its worker lies sealed, and nobody but the worker that holds the lease reads it.

use super::{JOBS, ann, channel, ok, worker};
use crate::support::answer::{json as body, text};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use axum::http::Method;
use serde_json::{Value, json};

const SECRET: &str = "tiger-pass-90412";

/// Everything that the database holds of jobs, as text.
async fn stored(app: &TestApp) -> String {
    let mut db = app.connect().await;
    let all = "SELECT string_agg(line, ' ') FROM (
        SELECT concat(to_jsonb(j), encode(coalesce(j.data, ''), 'escape')) AS line FROM jobs AS j
        UNION ALL SELECT to_jsonb(b)::text FROM broadcasts AS b
        UNION ALL SELECT to_jsonb(k)::text FROM job_idempotency_keys AS k) AS lines";
    sqlx::query_scalar(all).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_job_is_sealed_until_its_worker_takes_it_and_gone_when_it_ends() {
    let app = TestApp::start().await;
    let data = json!({ "cardholder_id": 7, "data": { "password": SECRET } });
    let create = ann(&app).request(Method::POST, JOBS).header("idempotency-key", "once").json(&data);
    let created = text(create.send().await.unwrap(), 201).await;
    let id = serde_json::from_str::<Value>(&created).unwrap()["id"].as_i64().unwrap();
    assert!(!stored(&app).await.contains(SECRET));
    for (client, path) in [
        (ann(&app), format!("{JOBS}/{id}")),
        (worker(&app), format!("{JOBS}/{id}")),
        (ann(&app), JOBS.to_owned()),
        (ann(&app), channel(id)),
    ] {
        let shown = text(client.get(&path).await, 200).await;
        assert!(!shown.contains(SECRET), "{path}: {shown}");
    }
    assert!(!created.contains(SECRET), "{created}");
    let claimed = ok(worker(&app).post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await).await;
    assert_eq!(claimed[0]["data"]["password"], SECRET);
    worker(&app).say(id, &json!({ "termination_type": "BILLABLE" })).await;
    let mut db = app.connect().await;
    let left = "SELECT count(*) FROM jobs WHERE data IS NOT NULL OR key_id IS NOT NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap(), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_no_job_with_data_is_taken() {
    let app = TestApp::with(&[("POSTRIDER_SECRET_KEY", "")], |app| app).await;
    let refused = ann(&app).post(JOBS, &json!({ "cardholder_id": 7, "site": "shop" })).await;
    assert!(text(refused, 503).await.contains("POSTRIDER_SECRET_KEY"));
    let (id, lease) = {
        ok(ann(&app).post(JOBS, &json!({ "cardholder_id": 7 })).await).await;
        worker(&app).claim().await
    };
    worker(&app).say(id, &json!({ "termination_type": "BILLABLE", "lease": lease })).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_process_cannot_open_waits_for_one_that_can_and_holds_nobody_up() {
    let database = database().await;
    let right = TestApp::on(database.clone(), &[], |app| app).await;
    let sealed = ok(ann(&right).post(JOBS, &json!({ "cardholder_id": 7, "n": 1 })).await).await;
    right.stop().await;
    let other = [("POSTRIDER_SECRET_KEY", "another key of the tests of at least 32 characters")];
    let wrong = TestApp::on(database.clone(), &other, |app| app).await;
    let (open, _) = ann(&wrong).create().await;
    let claim = format!("{JOBS}/claim?wait=20s&max=10");
    let claimed = ok(worker(&wrong).post(&claim, &json!({})).await).await;
    assert_eq!(claimed.as_array().unwrap().len(), 1, "{claimed}");
    assert_eq!(claimed[0]["id"], open);
    let job = body(ann(&wrong).get(&format!("{JOBS}/{}", sealed["id"])).await, 200).await;
    assert_eq!((&job["status"], &job["started_on"]), (&json!("REQUESTED"), &Value::Null));
    wrong.stop().await;
    let both =
        "another key of the tests of at least 32 characters,a key of the tests of at least 32 characters";
    let right = TestApp::on(database, &[("POSTRIDER_SECRET_KEY", both)], |app| app).await;
    eventually("it is taken where it can be opened", async || {
        let claimed = ok(worker(&right).post(&claim, &json!({})).await).await;
        claimed.as_array().unwrap().iter().any(|job| job["id"] == sealed["id"] && job["data"]["n"] == 1)
    })
    .await;
    right.stop().await;
}

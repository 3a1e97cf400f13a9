//! Why a job is not running: each cause is made, and named.

use super::{Client, JOBS, ann, channel, ok, worker};
use crate::queues::why::{causes, reason};
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Executor as _;

async fn why(client: &Client<'_>, job: i64) -> Value {
    ok(client.get(&format!("{JOBS}/{job}/why")).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_claims_says_who_did_last_to_whom_that_may_be_told() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (first, _) = ann.create().await;
    let said = why(&ann, first).await;
    assert_eq!(
        (causes(&said), &said["kind"], &said["status"]),
        (vec!["nobody_claims"], &json!("job"), &json!("REQUESTED"))
    );
    assert_eq!(said["see"], format!("{JOBS}/{first}"));
    assert_eq!(worker.claim().await.0, first);
    let ((second, _), (third, _)) = (ann.create().await, ann.create().await);
    let mut db = app.connect().await;
    eventually("it is noted who asked", async || causes(&why(&ann, second).await) == ["due"]).await;
    assert_eq!(causes(&why(&ann, third).await), ["earlier"]);
    db.execute("UPDATE lane_askers SET asked_at = now() - interval '5 minutes'").await.unwrap();
    db.execute("UPDATE leases SET claimed_at = now() - interval '5 minutes'").await.unwrap();
    let said = why(&ann, third).await;
    assert_eq!(causes(&said), ["nobody_claims", "earlier"]);
    let nobody = reason(&said, "nobody_claims");
    assert!(nobody["since"].is_string() && nobody.get("by").is_none(), "{nobody}");
    assert!(!said.to_string().contains("\"worker\""), "its owner is not told who: {said}");
    assert_eq!(reason(&why(&worker, third).await, "nobody_claims")["by"], "worker");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_asks_is_to_end_or_has_a_silent_worker_says_so() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (job, _) = ann.create().await;
    let (_, lease) = worker.claim().await;
    let said = why(&worker, job).await;
    assert_eq!((causes(&said), &reason(&said, "running")["by"]), (vec!["running"], &json!("worker")));
    assert!(reason(&said, "running")["until"].is_string(), "its deadline");
    assert!(reason(&why(&ann, job).await, "running").get("by").is_none());

    worker.ask(job, "tfa_request").await;
    let said = why(&ann, job).await;
    assert_eq!(causes(&said), ["asks_owner", "running"]);
    let asks = reason(&said, "asks_owner");
    assert_eq!((&asks["of"], &asks["fault"]), (&json!("tfa_request"), &json!(false)));
    assert!(asks["since"].as_str().unwrap() < asks["until"].as_str().unwrap());
    let asked = ok(ann.get(asks["see"].as_str().unwrap()).await).await;
    let answer = json!({ "envelope_id": asked["envelope_id"], "type": "tfa_response", "message": "1234" });
    assert!(asks["do"].as_str().unwrap().ends_with(&format!("{}/credential_responses", channel(job))));
    ok(ann.post(&format!("{}/credential_responses", channel(job)), &answer).await).await;
    assert_eq!(causes(&why(&ann, job).await), ["running"]);

    let mut db = app.connect().await;
    db.execute("UPDATE leases SET lease = '1 hour', expires_at = now() + interval '10 minutes'")
        .await
        .unwrap();
    let said = why(&worker, job).await;
    assert_eq!(
        (causes(&said), &reason(&said, "worker_silent")["by"]),
        (vec!["worker_silent"], &json!("worker"))
    );

    ann.say(job, &json!({ "status": "CANCEL_REQUESTED" })).await;
    let said = why(&ann, job).await;
    assert_eq!(causes(&said), ["worker_silent", "cancelling"]);
    assert!(reason(&said, "cancelling")["until"].is_string());
    let end = json!({ "status": "DONE", "termination_type": "PROCESS_FAILURE", "lease": lease });
    worker.say(job, &end).await;
    let said = why(&ann, job).await;
    assert_eq!((&said["status"], &said["reasons"]), (&json!("DONE"), &json!([])));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_the_job_may_ask_and_nobody_else() {
    let app = TestApp::start().await;
    let (job, _) = ann(&app).create().await;
    let path = format!("{JOBS}/{job}/why");
    let eve = Client { app: &app, subject: "eve", roles: &["cardholder_agent"] };
    refusal(eve.get(&path).await, 404).await;
    let nobody = Client { app: &app, subject: "ann", roles: &["queue_admin"] };
    refusal(nobody.get(&path).await, 403).await;
    let agent = Client { app: &app, subject: "eve", roles: &["customer_agent"] };
    for known in [&agent, &worker(&app), &ann(&app)] {
        json(known.get(&path).await, 200).await;
        json(known.get(&format!("{path}/")).await, 200).await;
    }
    refusal(agent.get(&format!("{JOBS}/{}/why", job + 1)).await, 404).await;
    app.stop().await;
}

//! What is counted of jobs, and measured when somebody asks.

use super::{ann, ok, worker};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_each_kind_of_jobs_does() {
    let directory = tempfile::tempdir().unwrap();
    // A name of this test's own: all tests of the process share the counters.
    std::fs::write(directory.path().join("counted_jobs.jobs.json"), "{}").unwrap();
    let settings = [("POSTRIDER_QUEUES_DIR", directory.path().to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app).await;
    let (ann, worker) = (ann(&app), worker(&app));
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(ok(ann.post("/counted_jobs", &json!({ "cardholder_id": 7 })).await).await);
    }
    let path = |job: usize| format!("/counted_jobs/{}", jobs[job]["id"]);
    let channel = |job: usize| format!("/messages/counted_jobs/{}", jobs[job]["id"]);
    // The first is asked something, answered, and succeeds; nobody answers the second; the third is cancelled
    // before a worker takes it; the fourth runs, the fifth waits.
    ok(worker.post("/counted_jobs/claim?max=2", &json!({})).await).await;
    let ask = async |job| {
        let asked = json!({ "type": "tfa_request" });
        ok(worker.post(&format!("{}/credential_requests", channel(job)), &asked).await).await
    };
    let question = ask(0).await;
    let answer = json!({ "envelope_id": question["envelope_id"], "message": "1234" });
    ok(ann.post(&format!("{}/credential_responses", channel(0)), &answer).await).await;
    let end = json!({ "status": "DONE", "termination_type": "BILLABLE" });
    ok(worker.put(&path(0), &end).await).await;
    ask(1).await;
    for _ in 0..5 {
        // Asking for the answer is a heartbeat, so that the worker is not lost first.
        ok(worker.get(&format!("{}/credential_responses", channel(1))).await).await;
        app.elapse(Duration::from_secs(49)).await;
    }
    eventually("nobody answers", async || ok(ann.get(&path(1)).await).await["status"] == "TIMEOUT_TFA").await;
    ok(ann.put(&path(2), &json!({ "status": "CANCEL_REQUESTED" })).await).await;
    ok(worker.put(&path(3), &json!({ "status": "AUTH" })).await).await;

    let read = |accept: &str| {
        let request = ann.request(Method::GET, &format!("{}/broadcasts", channel(3)));
        request
            .header("cardsavr-messaging-access-key", jobs[3]["access_key"].as_str().unwrap())
            .header("accept", accept)
    };
    for _ in 0..2 {
        ok(read("application/json").send().await.unwrap()).await;
    }
    let stream = read("text/event-stream").send().await.unwrap();
    let mut text = String::new();
    let shown = async || app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    eventually("the stream is counted", async || {
        text = shown().await;
        text.contains("postrider_broadcast_streams{job_type=\"counted_jobs\"} 1\n")
    })
    .await;
    let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    has(r#"postrider_jobs_created_total{job_type="counted_jobs"} 5"#);
    for (end, count) in
        [("BILLABLE", 1), ("USER_DATA_FAILURE", 1), ("NEVER_STARTED", 1), ("PROCESS_FAILURE", 0)]
    {
        let labels = format!(r#"{{job_type="counted_jobs",termination_type="{end}"}}"#);
        has(&format!("postrider_jobs_ended_total{labels} {count}"));
    }
    // Two questions, an answer, three ends, a status.
    has(r#"postrider_broadcasts_total{job_type="counted_jobs"} 7"#);
    has(r#"postrider_broadcast_polls_total{job_type="counted_jobs"} 2"#);
    for (event, count) in [("asked", 2), ("answered", 1), ("expired", 1)] {
        has(&format!(r#"postrider_job_questions_total{{job_type="counted_jobs",event="{event}"}} {count}"#));
    }
    has(r#"postrider_job_answer_seconds_count{job_type="counted_jobs"} 1"#);
    has(r#"postrider_jobs_waiting{job_type="counted_jobs"} 1"#);
    has(r#"postrider_jobs_running{job_type="counted_jobs"} 1"#);
    drop(stream);
    eventually("the stream is gone", async || {
        // Its end is found when there is something to send.
        ok(worker.put(&path(3), &json!({ "status": "AUTH" })).await).await;
        shown().await.contains("postrider_broadcast_streams{job_type=\"counted_jobs\"} 0\n")
    })
    .await;
    app.stop().await;
}

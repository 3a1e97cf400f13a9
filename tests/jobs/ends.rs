//! The end of a job: said again by its worker it is the same end, said by anybody else or otherwise it is refused.

use super::{JOBS, ann, channel, ok, refused, worker};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// A change with a lease in it.
fn with(lease: &str, change: &Value) -> Value {
    let mut change = change.clone();
    change["lease"] = json!(lease);
    change
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_the_end_of_its_job_again_hears_that_it_counts() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let end =
        json!({ "status": "SUCCESSFUL", "termination_type": "BILLABLE", "account": { "a": 1, "b": 2 } });
    let other = json!({ "status": "FAILED", "termination_type": "PROCESS_FAILURE" });
    for by_broadcast in [false, true] {
        let (id, key) = ann.create().await;
        let (_, lease) = worker.claim().await;
        let (job, log) = (format!("{JOBS}/{id}"), format!("{}/broadcasts", channel(id)));
        let said = with(&lease, &end);
        let first = if by_broadcast {
            let first = worker.post(&log, &said).await;
            refused(&first, StatusCode::CREATED);
            ok(first).await
        } else {
            ok(worker.put(&job, &said).await).await
        };
        // By either way, and by a worker that sends no lease.
        for again in [with(&lease, &end), end.clone()] {
            let again_put = worker.put(&job, &again).await;
            refused(&again_put, StatusCode::OK);
            let again_put = ok(again_put).await;
            assert_eq!((&again_put["id"], &again_put["termination_type"]), (&json!(id), &json!("BILLABLE")));
            let again = worker.post(&log, &again).await;
            refused(&again, StatusCode::OK);
            let again = ok(again).await;
            if by_broadcast {
                assert_eq!(again, first);
            }
        }
        for change in [with(&lease, &other), with(&lease, &json!({ "status": "AUTH" })), other.clone()] {
            refused(&worker.put(&job, &change).await, StatusCode::CONFLICT);
            refused(&worker.post(&log, &change).await, StatusCode::CONFLICT);
        }
        let stranger = with(&uuid::Uuid::new_v4().to_string(), &end);
        refused(&worker.put(&job, &stranger).await, StatusCode::CONFLICT);
        assert_eq!(ann.poll(id, &key, "").await.len(), 1, "it was said once");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_a_job_whose_worker_was_lost_is_refused_however_often_it_is_said() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    let (_, lease) = worker.claim().await;
    app.elapse(Duration::from_mins(2)).await;
    let job = format!("{JOBS}/{id}");
    eventually("the reclaim ends it", async || {
        ok(ann.get(&job).await).await["termination_type"] == "PROCESS_FAILURE"
    })
    .await;
    // The very words of the reclaim are not the worker's.
    let as_the_reclaim = json!({ "status": "VBS_ERROR", "termination_type": "PROCESS_FAILURE" });
    for end in [json!({ "termination_type": "BILLABLE" }), as_the_reclaim] {
        for said in [with(&lease, &end), with(&lease, &end), end] {
            refused(&worker.put(&job, &said).await, StatusCode::CONFLICT);
        }
    }
    app.stop().await;
}

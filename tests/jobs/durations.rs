//! A duration is written with its unit; where clients in the field send a bare number, that is one of seconds.

use super::{JOBS, ann, channel, ok, worker};
use crate::support::app::TestApp;
use axum::http::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_a_duration_or_a_bare_number_of_seconds() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    let (job, key) = ann.create().await;
    worker(&app).say(job, &json!({ "status": "AUTH" })).await;
    for wait in ["9s", "9", "500ms", "1h", "0"] {
        // Something is there: nobody waits.
        assert_eq!(ann.poll(job, &key, &format!("?after=0&wait={wait}")).await.len(), 1, "{wait}");
    }
    assert!(ann.poll(job, &key, "?after=1&wait=50ms").await.is_empty(), "it ends when its time is over");
    for wait in ["", "soon", "-1", "9.5", "1us"] {
        let path = format!("{}/broadcasts?wait={wait}", channel(job));
        let read = ann.request(Method::GET, &path).header("cardsavr-messaging-access-key", &key);
        assert_eq!(read.send().await.unwrap().status(), StatusCode::BAD_REQUEST, "{wait}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_a_job_are_seconds_or_durations() {
    let app = TestApp::start().await;
    let ann = ann(&app);
    for (time, seconds) in
        [(json!(90), 90), (json!("90s"), 90), (json!("1m30s"), 90), (json!("30days"), 2_592_000)]
    {
        let job = ok(ann.post(JOBS, &json!({ "cardholder_id": 7, "credential_timeout": time })).await).await;
        assert_eq!(job["credential_timeout"], seconds, "{time}");
    }
    for wrong in [json!("90"), json!("500ms"), json!("0s"), json!("31days"), json!(1.5), json!([]), json!("")]
    {
        let answer = ann.post(JOBS, &json!({ "cardholder_id": 7, "job_timeout": wrong })).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    app.stop().await;
}

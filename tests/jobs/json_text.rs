//! What jobs carry is kept as it was sent, whatever JSON allows; only what is text to the server must be text.

use super::{JOBS, ann, channel, ok, worker};
use crate::support::answer::text;
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::json;

/// What no `jsonb` holds, and what one would write in another way.
const WILD: &str = r#""a\u0000":"\ud800","n":1e400,"n":123456789012345678901234567890.10,"e":"\u00e9""#;

async fn send(client: &super::Client<'_>, method: Method, path: &str, body: String) -> reqwest::Response {
    client.request(method, path).header("content-type", "application/json").body(body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_statuses_and_questions_are_handed_on_as_they_stand() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let body = format!(r#"{{"cardholder_id":7,"data":{{{WILD}}},"job_timeout":60}}"#);
    let created = text(send(&ann, Method::POST, JOBS, body).await, 201).await;
    let job: serde_json::Value = serde_json::from_str(&created).unwrap();
    let (id, key) = (job["id"].as_i64().unwrap(), job["access_key"].as_str().unwrap());
    let claimed = text(worker.post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await, 200).await;
    assert!(claimed.contains(WILD), "{claimed}");

    let status = format!(r#"{{"status":"A","percent_complete":5,{WILD}}}"#);
    text(send(&worker, Method::PUT, &format!("{JOBS}/{id}"), status.clone()).await, 200).await;
    let said = send(&worker, Method::POST, &format!("{}/broadcasts", channel(id)), status).await;
    let said = text(said, 201).await;
    assert!(said.contains(WILD), "{said}");
    let asked = format!(r#"{{"type":"tfa_request",{WILD}}}"#);
    let asked = send(&worker, Method::POST, &format!("{}/credential_requests", channel(id)), asked).await;
    let asked = text(asked, 201).await;
    assert!(asked.contains(WILD), "{asked}");
    let read = text(ann.get(&format!("{}/credential_requests", channel(id))).await, 200).await;
    assert_eq!(read, asked);
    let request = ann.request(Method::GET, &format!("{JOBS}/{id}"));
    let hydrated = request.header("x-cardsavr-hydration", r#"["credential_requests"]"#).send().await.unwrap();
    assert!(text(hydrated, 200).await.contains(WILD));

    // Every way to read the log.
    let poll = |query: &str| {
        let path = format!("{}/broadcasts{query}", channel(id));
        ann.request(Method::GET, &path).header("cardsavr-messaging-access-key", key).send()
    };
    for query in ["", "?after=0"] {
        let polled = text(poll(query).await.unwrap(), 200).await;
        assert_eq!(polled.matches(WILD).count(), 2, "{polled}");
        assert!(
            polled.contains(r#""status": "A""#) && polled.contains(r#""percent_complete": 5"#),
            "{polled}"
        );
    }
    for path in [channel(id), "/messages/cardholders/7".to_owned()] {
        assert!(text(ann.get(&path).await, 200).await.contains(WILD), "{path}");
    }
    let end = format!(r#"{{"termination_type":"BILLABLE",{WILD}}}"#);
    text(send(&worker, Method::PUT, &format!("{JOBS}/{id}"), end).await, 200).await;
    let last = text(poll("").await.unwrap(), 200).await;
    assert!(last.contains(WILD) && last.contains(r#""termination_type": "BILLABLE""#), "{last}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_text_to_the_server_must_be_text() {
    let app = TestApp::start().await;
    let (ann, worker) = (ann(&app), worker(&app));
    let (id, _) = ann.create().await;
    worker.claim().await;
    for wrong in [r#"{"status":"a\u0000"}"#, r#"{"status":"A","status_message":"\u0000"}"#] {
        text(send(&worker, Method::PUT, &format!("{JOBS}/{id}"), wrong.to_owned()).await, 422).await;
    }
    let path = format!("{}/credential_requests", channel(id));
    text(send(&worker, Method::POST, &path, r#"{"type":"a\u0000"}"#.to_owned()).await, 422).await;
    let half = r#"{"status":"A","status_message":"half \ud800"}"#;
    text(send(&worker, Method::PUT, &format!("{JOBS}/{id}"), half.to_owned()).await, 200).await;
    let job = ok(ann.get(&format!("{JOBS}/{id}")).await).await;
    assert_eq!(job["status_message"], "half \u{fffd}");
    app.stop().await;
}

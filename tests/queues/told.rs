//! What `why` tells of a message, and to whom.

use super::remote::{call, claim, start};
use super::why::{causes, reason, why};
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::time::Duration;

const ERROR: &str = "the printer of ann is on fire";

#[tokio::test(flavor = "multi_thread")]
async fn why_an_attempt_failed_is_told_to_those_who_may_see_all_of_the_message() {
    let fails = |_: Message| async {
        let error = json!({ "name": "Busy", "message": ERROR });
        Err::<Value, _>(Failure::Retry(error, Some(Duration::from_hours(1))))
    };
    let app = TestApp::with(&[], |app| app.handler("fails", fails)).await;
    app.define("q", json!({ "handler": { "kind": "native", "name": "fails" } })).await;
    let id = app.push("q", &json!(1)).await;
    eventually("it has failed", async || causes(&why(&app, "q", &id).await) == ["backoff"]).await;
    let path = format!("/queues/q/messages/{id}");
    let ask =
        async |role: &str, path: String| app.request_as(&[role], Method::GET, &path).send().await.unwrap();
    for role in ["queue_admin", "system_admin"] {
        let whole = json(ask(role, format!("{path}?view=full")).await, 200).await.to_string();
        let said = json(ask(role, format!("{path}/why")).await, 200).await;
        assert!(whole.contains(ERROR), "{whole}");
        let backoff = reason(&said, "backoff");
        assert_eq!(backoff["error"], format!("Busy: {ERROR}"));
        assert!(backoff["detail"].as_str().unwrap().contains(ERROR), "{backoff}");
    }
    for role in ["q_writer", "queue_writer"] {
        refusal(ask(role, format!("{path}?view=full")).await, 403).await;
        let said = json(ask(role, format!("{path}/why")).await, 200).await;
        assert!(!said.to_string().contains("printer"), "{said}");
        let backoff = reason(&said, "backoff");
        assert_eq!((&backoff["attempt"], backoff["until"].is_string()), (&json!(1), true), "{said}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_claimed_for_the_first_time_counts_as_asking() {
    let app = start(json!({})).await;
    app.push("q", &json!(1)).await;
    let claimed = claim(&app, "").await;
    let second = app.push("q", &json!(2)).await;
    let mut db = app.connect().await;
    // The note of who asks comes after the claim's answer.
    eventually("it is noted", async || {
        sqlx::query("DELETE FROM lane_askers").execute(&mut db).await.unwrap().rows_affected() == 1
    })
    .await;
    let said = why(&app, "q", &second).await;
    assert_eq!(causes(&said), ["due"], "{said}");
    db.execute("UPDATE leases SET claimed_at = now() - interval '5 minutes'").await.unwrap();
    let said = why(&app, "q", &second).await;
    let nobody = reason(&said, "nobody_claims");
    assert_eq!((&nobody["by"], nobody["since"].is_string()), (&json!("tester"), true));
    json(call(&app, &claimed[0], "heartbeat", json!({})).await, 200).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_secret_no_living_process_can_open_says_so() {
    let app = TestApp::start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    app.define("q", json!({ "handler": { "kind": "http", "url": "http://127.0.0.1:9", "secret": secret } }))
        .await;
    let database = app.database.clone();
    app.stop().await;
    let keyless = TestApp::on(database.clone(), &[("POSTRIDER_SECRET_KEY", "")], |app| app).await;
    let id = keyless.push("q", &json!(1)).await;
    let said = why(&keyless, "q", &id).await;
    assert_eq!(causes(&said), ["no_key"], "{said}");
    let missing = reason(&said, "no_key");
    assert_eq!((&missing["of"], &missing["fault"]), (&json!("q"), &json!(true)));
    assert!(missing["do"].as_str().unwrap().contains("POSTRIDER_SECRET_KEY"), "{missing}");
    let other = [("POSTRIDER_SECRET_KEY", "another key of the tests of at least 32 characters")];
    let other = TestApp::on(database.clone(), &other, |app| app).await;
    assert_eq!(causes(&why(&keyless, "q", &id).await), ["no_key"]);
    other.stop().await;
    let keyed = TestApp::on(database, &[], |app| app).await;
    eventually("somebody has the key", async || !causes(&why(&keyless, "q", &id).await).contains(&"no_key"))
        .await;
    keyed.stop().await;
    keyless.stop().await;
}

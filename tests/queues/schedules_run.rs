//! Schedules of queues that are run by hand: what that pushes, what it leaves as it is, and who else may be at it.

use super::schedules::{holding, hourly, pushed, put, read, stopped, ticks};
use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use axum::http::Method;
use reqwest::Response;
use serde_json::{Value, json};

/// Runs a schedule of the queue `q` by hand, under an idempotency key if there is one.
async fn run(app: &TestApp, name: &str, key: Option<&str>) -> Response {
    let mut request = app.request(Method::POST, &format!("/queues/q/schedules/{name}/run"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_pushes_at_once_and_leaves_the_moments_as_they_are() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    put(&app, "off", &hourly("off", json!({ "enabled": false }))).await;
    put(&app, "skip", &hourly("skip", json!({ "overlap": "skip" }))).await;
    let next = read(&app, "skip").await["state"]["next_run"].clone();
    let answer = run(&app, "off", None).await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let message = json(answer, 201).await;
    assert_eq!(location, format!("/queues/q/messages/{}", message["id"].as_str().unwrap()));
    assert_eq!((&message["status"], &message["request"]), (&json!("PENDING"), &json!({ "of": "off" })));

    let first = json(run(&app, "skip", Some("k")).await, 201).await;
    assert_eq!(
        json(run(&app, "skip", Some("k")).await, 200).await["id"],
        first["id"],
        "it was asked for again"
    );
    refusal(run(&app, "off", Some("k")).await, 409).await;
    refusal(run(&app, "skip", None).await, 409).await;
    let id = first["id"].as_str().unwrap();
    assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    refusal(run(&app, "skip", Some("k")).await, 410).await;
    json(run(&app, "skip", None).await, 201).await;
    assert_eq!(pushed(&app).await, ["off", "skip"]);
    let state = read(&app, "skip").await["state"].clone();
    assert_eq!((&state["next_run"], state["last_run"].is_string()), (&next, true));
    let mut db = app.connect().await;
    assert_eq!(ticks(&mut db, "skip", "by hand").await, 2);
    refusal(run(&app, "none", None).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_runs_by_hand_at_once_one_pushes_where_overlaps_are_skipped() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({ "overlap": "skip" }))).await;
    let run = async || run(&app, "s", None).await.status().as_u16();
    let mut all = futures::future::join_all((0..8).map(|_| run())).await;
    all.sort_unstable();
    assert_eq!(all, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(pushed(&app).await, ["s"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_runs_by_hand_at_once_under_one_key_both_are_answered_with_one_message() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    put(&app, "s", &hourly("s", json!({ "overlap": "skip" }))).await;
    let mut firing = holding(&app).await;
    let let_go = async {
        stopped(&app, 2).await;
        sqlx::query("COMMIT").execute(&mut firing).await.unwrap();
    };
    let (one, other, ()) = tokio::join!(run(&app, "s", Some("k")), run(&app, "s", Some("k")), let_go);
    let mut statuses = [one.status().as_u16(), other.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    let (one, other): (Value, Value) = (one.json().await.unwrap(), other.json().await.unwrap());
    assert_eq!(one, other);
    assert_eq!(pushed(&app).await, ["s"]);
    assert_eq!(ticks(&mut firing, "s", "by hand").await, 1);
    // Another key is another run, which the message under way stands against.
    refusal(run(&app, "s", Some("other")).await, 409).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_that_meets_a_put_pushes_what_was_put() {
    let app = TestApp::start().await;
    let schema = json!({ "properties": { "of": { "enum": ["former", "new"] } } });
    app.define("q", json!({ "handler": { "kind": "worker" }, "incoming": { "schema": schema } })).await;
    put(&app, "s", &hourly("former", json!({}))).await;
    json(run(&app, "s", None).await, 201).await;
    for (of, overlap, status) in [("new", "allow", 201), ("new", "skip", 409), ("beyond", "allow", 422)] {
        let mut putting = holding(&app).await;
        let document = hourly(of, json!({ "overlap": overlap }));
        let statement = "UPDATE queue_schedules SET definition = $1, message = $1 -> 'message'";
        sqlx::query(statement).bind(&document).execute(&mut putting).await.unwrap();
        let commit = async {
            stopped(&app, 1).await;
            sqlx::query("COMMIT").execute(&mut putting).await.unwrap();
        };
        let (answer, ()) = tokio::join!(run(&app, "s", None), commit);
        text(answer, status).await;
    }
    assert_eq!(pushed(&app).await, ["former", "new"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_is_counted_among_the_pushes_of_its_queue_once() {
    let app = TestApp::start().await;
    let of = "run_by_hand_and_counted";
    app.define(of, json!({})).await;
    let path = format!("/queues/{of}/schedules/s");
    json(app.put(&path, &hourly("s", json!({}))).await, 201).await;
    for status in [201, 200] {
        let run = app.request(Method::POST, &format!("{path}/run")).header("idempotency-key", "k");
        json(run.send().await.unwrap(), status).await;
    }
    let counted = format!("postrider_messages_pushed_total{{queue=\"{of}\"}} 1");
    let told = text(app.get("/metrics").await, 200).await;
    assert!(told.lines().any(|line| line == counted), "{counted}\n{told}");
    app.stop().await;
}

//! What the log of a process says of failures: one line each, after its commit, with the request that made it.

use crate::faults::{connect, url_of};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;

/// The type of jobs that ships.
const JOBS: &str = "/place_card_on_single_site_jobs";

/// The lines of the log that say this.
fn lines(serve: &Serve, saying: &str) -> Vec<Value> {
    let lines = serve.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    lines.filter(|line| line["message"] == saying).collect()
}

/// Waits for one line that says this; there is no other.
async fn line(serve: &Serve, saying: &str) -> Value {
    eventually(&format!("the log says that {saying}"), async || !lines(serve, saying).is_empty()).await;
    let [line] = &lines(serve, saying)[..] else { panic!("{:#?}", lines(serve, saying)) };
    line.clone()
}

/// Sends a request under this name, which must be accepted.
async fn named(id: &str, request: reqwest::RequestBuilder, body: &Value) -> Value {
    let answer = request.header("x-request-id", id).json(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn eager(max_attempts: u32) -> Value {
    json!({ "max_attempts": max_attempts, "retry": { "base": "1ms", "cap": "1ms" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_in_error_is_one_line_with_its_cause_and_the_request_that_pushed_it() {
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    let handler = "module.exports = async () => { throw new TypeError('the shop is closed'); };";
    serve
        .define(
            "failing",
            &json!({ "handler": { "kind": "javascript", "source": handler }, "options": eager(3) }),
        )
        .await;
    let push = serve.request(Method::POST, "/queues/failing/messages");
    let id = named("order-7", push, &json!({})).await["id"].clone();
    let line = line(&serve, "a message ended in ERROR").await;
    assert_eq!(
        json!([line["level"], line["queue"], line["id"], line["attempt"], line["request_id"]]),
        json!(["WARN", "failing", id, 3, "order-7"])
    );
    assert_eq!((&line["error"], &line["cause"]), (&json!("TypeError"), &json!("the shop is closed")));
    assert!(line["took"].is_string(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_workers_failure_names_the_push_and_not_the_workers_request() {
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    serve.define("remote", &json!({ "handler": { "kind": "worker" } })).await;
    named("the-push", serve.request(Method::POST, "/queues/remote/messages"), &json!({})).await;
    let claim = serve.request(Method::POST, "/queues/remote/claim?wait=20s");
    let claimed = named("the-claim", claim, &Value::Null).await[0].take();
    let path = format!("/queues/remote/messages/{}/fail", claimed["id"].as_str().unwrap());
    let failing = json!({ "lease": claimed["lease"], "error": "no stock\nWARN" });
    named("the-end", serve.request(Method::POST, &path), &failing).await;
    let line = line(&serve, "a message ended in ERROR").await;
    assert_eq!(
        json!([line["request_id"], line["cause"], line["error"]]),
        json!(["the-push", "no stock\nWARN", null])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_is_a_line_for_who_asks_for_more() {
    let serve = Serve::on(&url_of(&database().await), &[("POSTRIDER_LOG", "postrider=debug")]).await;
    let handler = "module.exports = async (m) => { if (m.fails) throw 'no'; };";
    let definition = json!({ "handler": { "kind": "javascript", "source": handler }, "options": eager(2) });
    serve.define("failing", &definition).await;
    let failing = serve.push("failing", &json!({ "fails": true })).await;
    let well = serve.push("failing", &json!({})).await;
    let attempts = || {
        let lines = serve.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let lines = lines.filter(|line| line["queue"] == "failing" && line["request_id"].is_string());
        let mut lines: Vec<Value> =
            lines.map(|line| json!([line["id"], line["level"], line["attempt"], line["cause"]])).collect();
        lines.sort_by_key(ToString::to_string);
        lines
    };
    eventually("all attempts are logged", async || attempts().len() >= 3).await;
    let mut expected = [
        json!([failing, "DEBUG", 1, "no"]),
        json!([failing, "WARN", 2, "no"]),
        json!([well, "DEBUG", 1, null]),
    ];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(attempts(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_way_it_is_pushed_a_message_keeps_the_name_of_its_request() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut kept = Vec::new();
    for (path, key, body) in [
        ("messages", None, json!(1)),
        ("messages", Some("a"), json!(1)),
        ("messages:batch", None, json!([1])),
        ("messages:batch", Some("b"), json!([1])),
    ] {
        let mut request = app.request(Method::POST, &format!("/queues/q/{path}"));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let pushed = named(&format!("{path}-{key:?}").replace(['(', ')', '"'], "."), request, &body).await;
        let id = pushed["id"].as_str().or(pushed[0]["id"].as_str()).unwrap().to_owned();
        kept.push(app.whole_message("q", &id).await["request_id"].clone());
    }
    assert_eq!(
        json!(kept),
        json!(["messages-None", "messages-Some..a..", "messages:batch-None", "messages:batch-Some..b.."])
    );
    // One without a name has the one that its answer says; one that no request pushed has none.
    let answer = app.post("/queues/q/messages", &json!(1)).await;
    let name = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let pushed: Value = answer.json().await.unwrap();
    assert_eq!(app.whole_message("q", pushed["id"].as_str().unwrap()).await["request_id"], name);
    let mut db = app.connect().await;
    let id = sqlx::query_scalar::<_, String>("SELECT enqueue('q', '1')::text");
    let id = id.fetch_one(&mut db).await.unwrap();
    assert_eq!(app.whole_message("q", &id).await["request_id"], json!(null));
    app.stop().await;
}

/// A store with an endpoint, where a failure is given up at once.
async fn hub(serve: &Serve, endpoint: &Scripted, messages: &[&str]) {
    let url = json!({ "url": endpoint.url });
    named("e", serve.request(Method::PUT, "/stores/s1/endpoints/warehouse"), &url).await;
    let mapping = json!({ "endpoint": "warehouse", "service": "take", "messages": messages,
        "options": { "retries_allowed": false } });
    named("m", serve.request(Method::PUT, "/stores/s1/mappings/ship"), &mapping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_parked_is_one_line_with_the_request_that_all_of_it_comes_of() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.json()["message"].as_str() {
        Some("order:new") => asked.acknowledge(json!({ "messages": [{ "message": "order:paid" }] })),
        _ => Reply::status(500),
    })
    .await;
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    hub(&serve, &endpoint, &["order:*"]).await;
    let push = serve.request(Method::POST, "/stores/s1/messages");
    let id = named("order-8", push, &json!({ "message": "order:new" })).await["message_id"].clone();
    let line = line(&serve, "a delivery is parked").await;
    assert_eq!(
        json!([line["level"], line["store"], line["endpoint"], line["attempt"], line["request_id"]]),
        json!(["WARN", "s1", "warehouse", 1, "order-8"])
    );
    assert!(line["error"].is_string() && line["took"].is_string(), "{line}");
    assert!(line["cause"].as_str().unwrap().contains("retries are not allowed"), "{line}");
    let root = format!("/stores/s1/messages/{}", id.as_str().unwrap());
    let root = named("read", serve.request(Method::GET, &root), &Value::Null).await;
    assert_eq!(root["request_id"], "order-8");
    let child = format!("/stores/s1/messages/{}", root["children"][0].as_str().unwrap());
    let child = named("read", serve.request(Method::GET, &child), &Value::Null).await;
    assert_eq!(child["deliveries"][0]["id"], line["delivery"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_parked_as_it_is_made_is_a_line_too() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let key = asked.json()["message"].clone();
        asked.acknowledge(json!({ "messages": [{ "message": key, "payload": { "after": asked.id() } }] }))
    })
    .await;
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    hub(&serve, &endpoint, &["order:*"]).await;
    let push = serve.request(Method::POST, "/stores/s1/messages");
    named("order-9", push.header("idempotency-key", "k"), &json!({ "message": "order:new" })).await;
    let line = line(&serve, "a delivery is parked").await;
    assert_eq!(json!([line["endpoint"], line["request_id"]]), json!(["warehouse", "order-9"]));
    assert!(line["cause"].as_str().unwrap().starts_with("loop"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_one_line_with_the_request_that_created_it_however_it_ends() {
    let database = database().await;
    let serve = Serve::on(&url_of(&database), &[]).await;
    let mut db = connect(&database).await;
    let agent = |method, path: &str| serve.request_of("ann", "cardholder_agent", method, path);
    let worker = |method, path: &str| serve.request_of("worker", "job_worker", method, path);
    let create = async |name: &str| {
        let job = named(name, agent(Method::POST, JOBS), &json!({ "cardholder_id": 7 })).await;
        job["id"].as_i64().unwrap()
    };
    let claim = async || {
        let claim = worker(Method::POST, &format!("{JOBS}/claim?wait=20s"));
        named("claim", claim, &json!({})).await[0].take()
    };
    // What is cancelled, and what is done, is no failure.
    let cancelled = create("cancelled").await;
    let cancel = json!({ "status": "CANCEL_REQUESTED" });
    named("-", agent(Method::PUT, &format!("{JOBS}/{cancelled}")), &cancel).await;
    let done = create("done").await;
    claim().await;
    let end = |end: &str| json!({ "status": "SAID", "termination_type": end });
    named("-", worker(Method::PUT, &format!("{JOBS}/{done}")), &end("BILLABLE")).await;
    let heeded = create("heeded").await;
    claim().await;
    named("-", agent(Method::PUT, &format!("{JOBS}/{heeded}")), &cancel).await;
    named("-", worker(Method::PUT, &format!("{JOBS}/{heeded}")), &end("USER_DATA_FAILURE")).await;

    let put = create("put").await;
    claim().await;
    named("-", worker(Method::PUT, &format!("{JOBS}/{put}")), &end("SITE_INTERACTION_FAILURE")).await;
    let said = create("said").await;
    claim().await;
    let say = worker(Method::POST, &format!("/messages{JOBS}/{said}/broadcasts"));
    named("-", say, &end("PROCESS_FAILURE")).await;
    let late = create("late").await;
    claim().await;
    db.execute("UPDATE jobs SET deadline = now() - interval '1 second' WHERE completed_at IS NULL")
        .await
        .unwrap();
    eventually("its time is over", async || lines(&serve, "a job ended badly").len() >= 3).await;
    let lost = create("lost").await;
    claim().await;
    db.execute("UPDATE leases SET expires_at = now() - interval '1 hour'").await.unwrap();
    eventually("its worker is lost", async || lines(&serve, "a job ended badly").len() >= 4).await;

    let lines = lines(&serve, "a job ended badly");
    let told: Vec<Value> = lines
        .iter()
        .map(|line| json!([line["level"], line["job"], line["error"], line["cause"], line["request_id"]]))
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["WARN", put, "SITE_INTERACTION_FAILURE", "SAID", "put"],
            ["WARN", said, "PROCESS_FAILURE", "SAID", "said"],
            ["WARN", late, "PROCESS_FAILURE", "VBS_TIMEOUT", "late"],
            ["WARN", lost, "PROCESS_FAILURE", "its worker was lost", "lost"],
        ])
    );
    assert!(lines.iter().all(|line| line["job_type"] == JOBS[1..]), "{lines:#?}");
}

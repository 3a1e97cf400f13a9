//! `kill -9` of the server that is ending overdue jobs: another one does it, once the dead one's time is over.

use super::{connect, new_database, url_of};
use crate::support::eventually;
use crate::support::serve::Serve;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;

const JOBS: &str = "/place_card_on_single_site_jobs";
const KEY: (&str, &str) = ("POSTRIDER_SECRET_KEY", "a key of at least 32 characters!");

async fn ok(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_ends_the_jobs_whose_keeper_was_killed() {
    let database = new_database().await;
    let url = url_of(&database);
    let first = Serve::on(&url, &[KEY]).await;
    let job = json!({ "cardholder_id": 7, "credential_timeout": 1 });
    let job = ok(first.request(Method::POST, JOBS).json(&job)).await;
    let (id, key) = (job["id"].as_i64().unwrap(), job["access_key"].as_str().unwrap());
    ok(first.request(Method::POST, &format!("{JOBS}/claim?wait=20s"))).await;

    // While somebody has the job, the server that comes to end it can only wait, and holds the duty.
    let mut db = connect(&database).await;
    let ask = first.request(Method::POST, &format!("/messages{JOBS}/{id}/credential_requests"));
    ok(ask.json(&json!({ "type": "tfa_request" }))).await;
    db.execute("BEGIN; SELECT FROM jobs FOR UPDATE").await.unwrap();
    let mut other = connect(&database).await;
    let duty = "SELECT holder::text FROM duties WHERE name = 'jobs' AND until > clock_timestamp()";
    let mut holder: Option<String> = None;
    eventually("the first has the duty", async || {
        holder = sqlx::query_scalar(duty).fetch_optional(&mut other).await.unwrap();
        holder.is_some()
    })
    .await;
    first.kill().await;
    let held: Option<String> = sqlx::query_scalar(duty).fetch_optional(&mut other).await.unwrap();
    assert_eq!(held, holder, "it died with the duty");
    db.execute("ROLLBACK").await.unwrap();

    let second = Serve::on(&url, &[KEY]).await;
    let mut log = Value::Null;
    eventually("the job ends", async || {
        let poll = second.request(Method::GET, &format!("/messages{JOBS}/{id}/broadcasts?after=0&wait=9"));
        log = ok(poll.header("cardsavr-messaging-access-key", key)).await;
        log.as_array().unwrap().last().unwrap()["message"]["termination_type"].is_string()
    })
    .await;
    let statuses: Vec<&Value> =
        log.as_array().unwrap().iter().map(|entry| &entry["message"]["status"]).collect();
    assert_eq!(statuses, ["PENDING_TFA", "TIMEOUT_TFA"], "once");
    let passed_on: bool = sqlx::query_scalar("SELECT holder::text <> $1 FROM duties WHERE name = 'jobs'")
        .bind(&holder)
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert!(passed_on);
}

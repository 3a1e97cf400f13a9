//! A server that is stopped (`SIGSTOP`, a frozen machine) past its lease, and goes on.

use super::{connect, new_database, url_of};
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use crate::support::tls::{Tls, key_file};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use std::time::{Duration, Instant};

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "2s");

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_stopped_past_its_lease_changes_nothing_and_goes_on() {
    let database = new_database().await;
    let url = url_of(&database);
    // The number of the run, so that it can be told whose end was written.
    let endpoint = Endpoint::start(str::to_owned).await;
    let first = Serve::on(&url, &[LEASE]).await;
    first.define("q", &super::posts_to(&endpoint.url)).await;
    endpoint.hold();
    let id = first.push("q", &json!("hello")).await;
    eventually("it runs", async || endpoint.held() == 1).await;
    let mut db = connect(&database).await;
    let former: String = sqlx::query_scalar("SELECT id::text FROM workers").fetch_one(&mut db).await.unwrap();
    first.signal(Signal::STOP);
    let stopped = Instant::now();

    let second = Serve::on(&url, &[LEASE]).await;
    eventually("the second runs it", async || endpoint.held() == 2).await;
    assert!(stopped.elapsed() < Duration::from_secs(20), "taken back after {:?}", stopped.elapsed());
    // Both get their answer; the first cannot read it yet.
    endpoint.release();
    let message = second.complete("q", &id).await;
    assert_eq!((&message["attempts"], &message["worker"]), (&json!(2), &json!(name_of(&second))));

    first.signal(Signal::CONT);
    let registered =
        "SELECT count(*) FROM workers WHERE name = $1 AND id::text <> $2 AND heartbeat > now() - lease";
    eventually("the first registers anew", async || {
        let query = sqlx::query_scalar::<_, i64>(registered).bind(name_of(&first)).bind(&former);
        query.fetch_one(&mut db).await.unwrap() == 1
    })
    .await;
    eventually("it says so", async || first.log().iter().any(|line| line.contains("was given up"))).await;
    second.kill().await;
    let next = first.push("q", &json!("next")).await;
    assert_eq!(first.complete("q", &next).await["worker"], name_of(&first));
    let after = first.message("q", &id).await;
    assert_eq!((&after["attempts"], &after["worker"]), (&message["attempts"], &message["worker"]));
    assert_eq!(after["history"], message["history"]);
    assert_eq!(endpoint.runs()[&id], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_before_a_stop_does_not_start_after_another_has_ended_it() {
    let database = new_database().await;
    let url = url_of(&database);
    let endpoint = Endpoint::start(str::to_owned).await;
    let first = Serve::on(&url, &[LEASE]).await;
    first.define("q", &super::posts_to(&endpoint.url)).await;
    let switch = async |serve: &Serve, what: &str| {
        let answer = serve.request(Method::POST, &format!("/queues/q/{what}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    switch(&first, "pause").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(first.push("q", &json!(n)).await);
    }
    let (mut holder, mut db) = (connect(&database).await, connect(&database).await);
    // A claim needs dispatch and leases alone; loading needs the messages.
    let mut lock = holder.begin().await.unwrap();
    lock.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    switch(&first, "resume").await;
    let claimed = "SELECT coalesce(sum(cardinality(items)), 0)::bigint FROM leases";
    eventually("all are claimed", async || {
        sqlx::query_scalar::<_, i64>(claimed).fetch_one(&mut db).await.unwrap() == 20
    })
    .await;
    first.signal(Signal::STOP);
    // What it waits for arrives, and lies there until it goes on.
    lock.commit().await.unwrap();

    let second = Serve::on(&url, &[LEASE]).await;
    for id in &ids {
        assert_eq!(second.complete("q", id).await["worker"], name_of(&second));
    }
    first.signal(Signal::CONT);
    eventually("it was given up", async || first.log().iter().any(|line| line.contains("was given up")))
        .await;
    second.kill().await;
    let next = first.push("q", &json!("next")).await;
    assert_eq!(first.complete("q", &next).await["worker"], name_of(&first));
    let runs = endpoint.runs();
    assert!(ids.iter().all(|id| runs[id] == 1), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_its_connection_until_another_had_ended_it_is_not_sent() {
    let database = new_database().await;
    let url = url_of(&database);
    let takes = |asked: &Asked| {
        let answer = json!({ "message_id": asked.json()["message_id"] });
        Reply::Says(200, Vec::new(), answer.to_string())
    };
    let endpoint = Scripted::start(takes).await;
    let tls = Tls::before(&endpoint.url, "tls-valid").await;
    let ca = key_file("tls-ca.pem");
    let settings = [
        LEASE,
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
        ("POSTRIDER_SECRET_KEY", "a key of the tests of at least 32 characters"),
    ];
    let first = Serve::on(&url, &settings).await;
    let send = async |serve: &Serve, method: Method, path: &str, body: &Value| -> Value {
        let answer = serve.request(method, path).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    };
    first.define("q", &super::posts_to(&tls.url)).await;
    send(&first, Method::PUT, "/stores/s/endpoints/e", &json!({ "url": tls.url })).await;
    let mapping = json!({ "endpoint": "e", "service": "take", "messages": ["order:new"] });
    send(&first, Method::PUT, "/stores/s/mappings/m", &mapping).await;

    tls.holds(true);
    let id = first.push("q", &json!({})).await;
    let order = json!({ "message": "order:new", "payload": {} });
    let order = send(&first, Method::POST, "/stores/s/messages", &order).await;
    let order = format!("/stores/s/messages/{}", order["message_id"].as_str().unwrap());
    eventually("both shake hands", async || tls.held() == 2).await;
    first.signal(Signal::STOP);
    tls.holds(false);

    let second = Serve::on(&url, &settings).await;
    assert_eq!(second.complete("q", &id).await["worker"], name_of(&second));
    eventually("it is delivered", async || {
        let message = send(&second, Method::GET, &order, &Value::Null).await;
        message["deliveries"][0]["status"] == "COMPLETE"
    })
    .await;
    // The other side of the handshakes is there when the first goes on.
    tls.release();
    first.signal(Signal::CONT);
    eventually("it was given up", async || first.log().iter().any(|line| line.contains("was given up")))
        .await;
    second.kill().await;
    let next = first.push("q", &json!({})).await;
    assert_eq!(first.complete("q", &next).await["worker"], name_of(&first));
    let ids: Vec<_> =
        endpoint.asked().iter().map(|asked| asked.header("webhook-id").map(str::to_owned)).collect();
    assert_eq!(ids.len(), 3, "each came once: {ids:?}");
}

/// As the admin view names a server: host and process id.
fn name_of(serve: &Serve) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", serve.pid().as_raw_nonzero())
}

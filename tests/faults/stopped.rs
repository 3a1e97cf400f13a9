//! A server that is stopped (`SIGSTOP`, a frozen machine) past its lease, and goes on.

use super::{connect, new_database, url_of};
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::serve::Serve;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
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

/// As the admin view names a server: host and process id.
fn name_of(serve: &Serve) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", serve.pid().as_raw_nonzero())
}

//! Remote workers that wait: each is answered in its turn, and many cost no more than one.

use super::remote::{call, claim, start};
use crate::support::answer::{json, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::hang_up::HangsUp;
use axum::http::Method;
use futures::FutureExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Each waiter has a connection, and both ends of it are in this process.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// How many transactions the instance's database has seen.
async fn transactions(app: &TestApp) -> i64 {
    let seen = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(seen).fetch_one(&mut app.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_wait_for_one_push_one_gets_it_and_the_other_goes_on_waiting() {
    let app = start(json!({})).await;
    let (first, second) = (claim(&app, "?wait=60s").boxed(), claim(&app, "?wait=60s").boxed());
    let waiting = futures::future::select(first, second);
    let message = json!(1);
    let (waiting, pushed) = tokio::join!(waiting, app.push("q", &message));
    let (claimed, mut other) = waiting.factor_first();
    assert_eq!((claimed.len(), &claimed[0]["id"]), (1, &json!(pushed)));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut other).await;
    assert!(early.is_err(), "{early:?}");
    let (claimed, pushed) = tokio::join!(other, app.push("q", &message));
    assert_eq!((claimed.len(), &claimed[0]["id"]), (1, &json!(pushed)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_wait_cost_no_more_than_one_and_each_push_wakes_one() {
    allow_many_files();
    let app = TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut waiting = JoinSet::new();
    for _ in 0..1000 {
        let request = app.request(Method::POST, "/queues/q/claim?wait=60s&max=2");
        waiting.spawn(async move { json(request.send().await.unwrap(), 200).await });
    }
    // Six heartbeats of a second, in which nothing happens.
    let (began, before) = (Instant::now(), transactions(&app).await);
    let mut db = app.connect().await;
    for _ in 0..6 {
        let heartbeat = "SELECT max(heartbeat)::text FROM workers";
        let last: String = sqlx::query_scalar(heartbeat).fetch_one(&mut db).await.unwrap();
        eventually("the heart beats", async || {
            sqlx::query_scalar::<_, String>(heartbeat).fetch_one(&mut db).await.unwrap() != last
        })
        .await;
    }
    assert!(waiting.try_join_next().is_none(), "all of them wait");

    let mut ids = BTreeSet::new();
    for n in 0..10 {
        ids.insert(app.push("q", &json!(n)).await);
    }
    let mut claimed = BTreeSet::new();
    while claimed.len() < ids.len() {
        let got = tokio::time::timeout(Duration::from_secs(30), waiting.join_next()).await.unwrap();
        let got = got.unwrap().unwrap();
        let got = got.as_array().unwrap();
        assert!(!got.is_empty(), "whoever is woken has something");
        claimed.extend(got.iter().map(|claimed| claimed["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(claimed, ids);
    assert!(waiting.try_join_next().is_none() && waiting.len() >= 990, "{} wait on", waiting.len());

    let database = app.database.clone();
    let took = began.elapsed();
    app.stop().await;
    // All are answered when the server stops, and its sessions have told what they did when they end.
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), json!([]));
    }
    let mut db = sqlx::PgConnection::connect_with(&database).await.unwrap();
    let mut seen = 0;
    eventually("the sessions have ended", async || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'postrider %'";
        seen = sqlx::query_scalar(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&mut db)
        .await
        .unwrap();
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    // Of these the test itself has made some hundred while it waited for heartbeats.
    let most = 30.0 * took.as_secs_f64() + 2000.0;
    let made = i32::try_from(seen - before).unwrap();
    assert!(f64::from(made) < most, "{made} transactions in {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_claims_who_has_hung_up_goes_to_the_next_and_its_attempt_does_not_count() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    // No claim can end before this lock does.
    let mut db = app.connect().await;
    db.execute("BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let gone = HangsUp::asks(&app, &["system_admin"], "/queues/q/claim?wait=60s").await;
    gone.once_blocked(&app, "messages").await;
    db.execute("COMMIT").await.unwrap();
    let claimed = tokio::time::timeout(Duration::from_secs(10), claim(&app, "?wait=20s")).await.unwrap();
    assert_eq!((&claimed[0]["id"], &claimed[0]["attempt"]), (&json!(id), &json!(1)));
    text(call(&app, &claimed[0], "complete", json!({})).await, 204).await;
    let full = app.whole_message("q", &id).await;
    assert_eq!(full["history"].as_array().map(Vec::len), Some(1), "{full}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_served_whoever_made_the_message_ready_and_wherever() {
    let app = start(json!({})).await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    let message = json!("elsewhere");
    let (claimed, id) = tokio::join!(claim(&app, "?wait=60s"), other.push("q", &message));
    assert_eq!(claimed[0]["id"], *id);
    let mut db = app.connect().await;
    // Nobody tells of what SQL enqueues, of higher priority or not.
    for priority in [0, 100] {
        let enqueue = format!("SELECT enqueue('q', '1', priority => {priority})::text");
        let enqueued = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(enqueue)).fetch_one(&mut db);
        let (claimed, id) = tokio::join!(claim(&app, "?wait=60s"), enqueued);
        assert_eq!(claimed[0]["id"], *id.unwrap());
    }
    // A queue that is not for remote workers any more sends them away.
    let (native, nothing) = (json!({ "kind": "native", "name": "none" }), json!(null));
    let change = app.put("/queues/q/handler", &native);
    let waiting = app.post("/queues/q/claim?wait=60s", &nothing);
    let (_, refused) = tokio::join!(change, tokio::time::timeout(Duration::from_secs(30), waiting));
    assert_eq!(refused.unwrap().status(), 409);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_many_gets_what_there_is_and_nobody_goes_without_while_there_is_something() {
    let app = start(json!({})).await;
    for n in 0..30 {
        app.push("q", &json!(n)).await;
    }
    let all = futures::future::join_all((0..6).map(|_| claim(&app, "?wait=30s&max=5"))).await;
    assert!(
        all.iter().all(|claimed| claimed.len() == 5),
        "{:?}",
        all.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let requests: BTreeSet<i64> =
        all.iter().flatten().map(|one: &Value| one["request"].as_i64().unwrap()).collect();
    assert_eq!(requests.len(), 30, "none is claimed twice");
    app.stop().await;
}

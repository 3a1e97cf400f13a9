//! Servers that die, and answers that are lost: one completion, one set of children, whatever the moment.

use super::stage::STORE;
use crate::engine::lost_answers::{COMMIT, Proxy};
use crate::faults::{connect, url_of};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::time::Duration;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "2s");

/// An answer with something of everything.
fn rich(asked: &Asked) -> Reply {
    asked.acknowledge(json!({
        "messages": [{ "message": "notification:info", "payload": { "subject": "s" } }, { "message": "order:next" }],
        "parameters": [{ "name": "since", "value": "now" }],
    }))
}

async fn put(serve: &Serve, path: &str, body: Value) {
    let answer = serve.request(Method::PUT, &format!("{STORE}{path}")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

/// A server on this database with the mapping of `order:new` to the endpoint.
async fn serve(url: &str, endpoint: &Scripted) -> Serve {
    let serve = Serve::on(url, &[LEASE]).await;
    put(
        &serve,
        "/endpoints/e",
        json!({ "url": endpoint.url, "breaker": { "failures": 1000, "cooldown": "1s" } }),
    )
    .await;
    let options = json!({ "retry": { "base": "5ms", "cap": "20ms" } });
    let mapping =
        json!({ "endpoint": "e", "service": "take", "messages": ["order:new"], "options": options });
    put(&serve, "/mappings/m", mapping).await;
    serve
}

async fn tell(serve: &Serve, n: i64) -> Option<String> {
    let body = json!({ "message": "order:new", "payload": { "n": n } });
    let request = serve.request(Method::POST, &format!("{STORE}/messages")).json(&body);
    let stored: Value = request.send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
    Some(stored["message_id"].as_str().unwrap().to_owned())
}

async fn count(db: &mut PgConnection, what: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {what}"))).fetch_one(db).await.unwrap()
}

/// Every delivery is COMPLETE, and has the children and the entries of one answer.
async fn assert_once(db: &mut PgConnection, messages: i64) {
    assert_eq!(count(db, "deliveries WHERE status = 'COMPLETE'").await, messages);
    assert_eq!(count(db, "deliveries").await, messages);
    assert_eq!(count(db, "hub_messages WHERE parent_id IS NOT NULL").await, 2 * messages);
    let each = "(SELECT FROM hub_messages WHERE parent_id IS NOT NULL GROUP BY parent_id HAVING count(*) <> 2) AS odd";
    assert_eq!(count(db, each).await, 0);
    assert_eq!(count(db, "delivery_attempts WHERE verdict = 'delivered'").await, messages);
    assert_eq!(count(db, "log_entries WHERE occurrences = 1").await, messages);
    assert_eq!(count(db, "leases").await + count(db, "dispatch").await + count(db, "scheduled").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_the_answer_and_its_commit_has_done_nothing() {
    let database = database().await;
    let url = url_of(&database);
    let endpoint = Scripted::start(|asked: &Asked| rich(asked).held()).await;
    let first = serve(&url, &endpoint).await;
    tell(&first, 1).await.unwrap();
    eventually("it is asked", async || endpoint.asked().len() == 1).await;
    let mut blocking = connect(&database).await;
    let mut tx = blocking.begin().await.unwrap();
    tx.execute("SELECT FROM deliveries FOR UPDATE").await.unwrap();
    endpoint.release();
    let mut db = connect(&database).await;
    eventually("it settles", async || count(&mut db, "pg_locks WHERE NOT granted").await > 0).await;
    first.kill().await;
    tx.rollback().await.unwrap();
    let _second = serve(&url, &endpoint).await;
    eventually("it is complete", async || count(&mut db, "deliveries WHERE status = 'COMPLETE'").await == 1)
        .await;
    eventually("nothing runs", async || count(&mut db, "leases").await == 0).await;
    assert_once(&mut db, 1).await;
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body, asked[1].body);
    assert_eq!(
        count(&mut db, "delivery_attempts WHERE error = 'the worker was lost' AND number = 1").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_loses_nothing_and_repeats_nothing() {
    let database = database().await;
    let url = url_of(&database);
    // Every third request fails once, so that retries are in the air too.
    let endpoint = Scripted::start(|asked: &Asked| {
        let n = asked.json()["payload"]["n"].as_i64().unwrap();
        if n % 3 == 0 && asked.before == 0 { Reply::status(503) } else { rich(asked) }
    })
    .await;
    let mut db = connect(&database).await;
    let mut told = 0;
    for round in 1..=3 {
        let serve = serve(&url, &endpoint).await;
        let finished = count(&mut db, "deliveries WHERE status = 'COMPLETE'").await;
        for n in 0..60 {
            told += i64::from(tell(&serve, n).await.is_some());
        }
        eventually("some are done", async || {
            count(&mut db, "deliveries WHERE status = 'COMPLETE'").await > finished + 10 * round
        })
        .await;
        serve.kill().await;
    }
    let _last = serve(&url, &endpoint).await;
    eventually("all are done", async || {
        count(&mut db, "deliveries WHERE status = 'COMPLETE'").await == told
            && count(&mut db, "leases").await == 0
    })
    .await;
    assert_once(&mut db, told).await;
    let mut ids = std::collections::HashMap::new();
    for asked in endpoint.asked() {
        let carried = ids.entry(asked.id()).or_insert_with(|| asked.header("webhook-id").unwrap().to_owned());
        assert_eq!(asked.header("webhook-id"), Some(carried.as_str()), "every attempt of it carries one id");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_commit_was_not_answered_takes_effect_once() {
    let proxy = Proxy::before(&database().await).await;
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::Says(503, vec![("Retry-After", "3600".to_owned())], String::new()),
        1 => Reply::status(503).held(),
        _ => rich(asked).held(),
    })
    .await;
    let app = TestApp::on(proxy.options.clone(), &[], |app| app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:new"], json!({})).await;
    let ids = [app.tell("order:new", json!({})).await, app.tell("order:new", json!({})).await];
    for id in &ids {
        eventually("it has failed", async || app.told(id).await["deliveries"][0]["attempts"] == 1).await;
    }
    app.server.run_until_idle().await.unwrap();
    // Both are claimed together from here: the first end leaves their lease open, the second closes it.
    app.elapse(Duration::from_hours(1)).await;
    for asked in [4, 4, 5, 6] {
        eventually("it is asked", async || endpoint.asked().len() >= asked).await;
        proxy.lose_the_answer_to(COMMIT);
        endpoint.release_once();
        eventually("an answer is lost", async || proxy.has_lost_it()).await;
    }
    for id in &ids {
        let message = app.delivered(id, "COMPLETE").await;
        let verdicts: Vec<Value> =
            app.attempts(&message).await.iter().map(|a| a["verdict"].clone()).collect();
        assert_eq!(verdicts, ["failed", "failed", "delivered"]);
    }
    app.server.run_until_idle().await.unwrap();
    assert_eq!(endpoint.asked().len(), 6);
    let mut db = app.connect().await;
    assert_once(&mut db, 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_given_back_by_a_commit_that_was_not_answered_comes_back_once() {
    let proxy = Proxy::before(&database().await).await;
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::Says(503, vec![("Retry-After", "3600".to_owned())], String::new()),
        _ => rich(asked).held(),
    })
    .await;
    let elsewhere = Scripted::agreeable().await;
    let app = TestApp::on(proxy.options.clone(), &[], |app| app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.endpoint("f", &elsewhere.url, json!({})).await;
    app.mapping("stays", "e", &["order:one"], json!({})).await;
    app.mapping("moves", "e", &["order:two"], json!({})).await;
    let ids = [app.tell("order:one", json!({})).await, app.tell("order:two", json!({})).await];
    for id in &ids {
        eventually("it has failed", async || app.told(id).await["deliveries"][0]["attempts"] == 1).await;
    }
    app.mapping("moves", "f", &["order:two"], json!({})).await;
    app.server.run_until_idle().await.unwrap();
    // Both are claimed together: the one that stays keeps their lease open while the other goes back.
    proxy.lose_the_answer_to(COMMIT);
    app.elapse(Duration::from_hours(1)).await;
    eventually("an answer is lost", async || proxy.has_lost_it()).await;
    app.delivered(&ids[1], "COMPLETE").await;
    endpoint.release();
    app.delivered(&ids[0], "COMPLETE").await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!((endpoint.asked().len(), elsewhere.asked().len()), (3, 1));
    let mut db = app.connect().await;
    let left = count(&mut db, "dispatch").await + count(&mut db, "scheduled").await;
    assert_eq!(left + count(&mut db, "leases").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_gives_back_that_is_told_to_stop_is_delivered_by_the_next_and_counts_no_attempt() {
    let database = database().await;
    let url = url_of(&database);
    let endpoint =
        Scripted::start(
            |asked: &Asked| {
                if asked.before == 0 { Reply::Hangs } else { asked.acknowledge(json!({})) }
            },
        )
        .await;
    // A lease that does not run out in the time of this test.
    let settings = [("POSTRIDER_GRACE", "200ms"), ("POSTRIDER_LEASE", "1h")];
    let mut first = Serve::on(&url, &settings).await;
    put(&first, "/endpoints/e", json!({ "url": endpoint.url })).await;
    let mapping = json!({
        "endpoint": "e", "service": "take", "messages": ["order:new"], "options": { "max_attempts": 1 }
    });
    put(&first, "/mappings/m", mapping).await;
    tell(&first, 1).await.unwrap();
    eventually("it is asked", async || endpoint.asked().len() == 1).await;
    first.signal(Signal::TERM);
    assert!(first.end().await.success());
    let mut db = connect(&database).await;
    assert_eq!(count(&mut db, "delivery_attempts WHERE verdict = 'returned' AND number = 1").await, 1);
    assert_eq!(count(&mut db, "deliveries WHERE status = 'PENDING'").await, 1);
    assert_eq!(count(&mut db, "dispatch WHERE attempt = 0").await, 1);
    let _second = Serve::on(&url, &settings).await;
    eventually("it is complete", async || count(&mut db, "deliveries WHERE status = 'COMPLETE'").await == 1)
        .await;
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].body, asked[1].body);
}

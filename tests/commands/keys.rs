//! `postrider keys rotate`: everything that lies sealed is sealed with the first key, or it is said what is left; and what
//! waits for a key that is gone.

use super::{Done, command, finish};
use crate::engine::ask;
use crate::house::sealed::put_secrets;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use serde_json::{Value, json};
use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::process::Command;
use tokio::task::JoinSet;

const FORMER: &str = "a key of the tests of at least 32 characters";
const NEW: &str = "another key of the tests that has 32 characters";
const JOBS: &str = "/place_card_on_single_site_jobs";

/// How many rows are sealed, and with how many keys.
const SEALED: &str = "SELECT format('%s rows, %s keys', count(*), count(DISTINCT key_id)) FROM (
    SELECT key_id FROM queues UNION ALL SELECT key_id FROM endpoints UNION ALL SELECT key_id FROM parameters
    UNION ALL SELECT key_id FROM pollers UNION ALL SELECT key_id FROM jobs UNION ALL SELECT key_id FROM envelopes
) AS sealed WHERE key_id IS NOT NULL";

/// The command with these keys, whose statements wait for a lock for so long.
async fn rotating(database: &PgConnectOptions, keys: &str, lock_timeout: &str) -> Command {
    let mut rotate = command(database, &["keys", "rotate"]).await;
    let url = rotate.as_std().get_envs().find(|(name, _)| *name == "DATABASE_URL").unwrap().1.unwrap();
    let url = format!("{}&options=-clock_timeout%3D{lock_timeout}", url.to_str().unwrap());
    rotate.env("DATABASE_URL", url).env("POSTRIDER_SECRET_KEY", keys);
    rotate
}

pub(crate) async fn rotate(database: &PgConnectOptions, keys: &str) -> Done {
    finish(rotating(database, keys, "60s").await, "").await
}

fn both() -> String {
    format!("{NEW},{FORMER}")
}

/// A server with these keys.
async fn serving(database: &PgConnectOptions, keys: &str) -> TestApp {
    TestApp::on(database.clone(), &[("POSTRIDER_SECRET_KEY", keys)], |app| app).await
}

async fn sealed(db: &mut PgConnection) -> String {
    ask(db, SEALED).await
}

/// Takes a job, which must be there; returns what it was created with.
async fn take(app: &TestApp) -> Value {
    json(app.post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await, 200).await[0]["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_sealed_anew_and_the_former_key_may_go() {
    let app = TestApp::start().await;
    put_secrets(&app).await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    assert_eq!(sealed(&mut db).await, "7 rows, 1 keys");

    // Without the former key nothing can be opened, and nothing is touched.
    let all = "SELECT string_agg(s.bytes::text, ',' ORDER BY s.bytes) FROM (
        SELECT secret AS bytes FROM queues UNION ALL SELECT token FROM endpoints UNION ALL SELECT sealed FROM parameters
        UNION ALL SELECT token FROM pollers UNION ALL SELECT data FROM jobs UNION ALL SELECT answer FROM envelopes
    ) AS s";
    let before: String = ask(&mut db, all).await;
    let done = rotate(&database, NEW).await;
    assert!(!done.ok && done.err.contains("7 are left: add their keys to POSTRIDER_SECRET_KEY"), "{done:?}");
    for line in ["queues: 1", "endpoints: 1", "parameters: 1", "pollers: 1", "envelopes: 1", "jobs: 2"] {
        assert!(done.out.contains(&format!("{line} left under the key ")), "{line}: {done:?}");
    }
    assert_eq!(ask::<String>(&mut db, all).await, before);

    let done = rotate(&database, &both()).await;
    assert!(done.ok && done.out.contains("jobs: 2 sealed anew"), "{done:?}");
    assert!(done.out.contains("everything is sealed with the first key"), "{done:?}");
    assert_eq!(sealed(&mut db).await, "7 rows, 1 keys");
    // Who sealed them has only the former key, and says so; nothing of it is lost.
    let refused = refusal(app.get(&format!("/messages{JOBS}/1/credential_responses")).await, 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("POSTRIDER_SECRET_KEY"), "{refused}");
    app.stop().await;

    // With the new key alone everything is opened.
    let done = rotate(&database, NEW).await;
    assert!(done.ok && done.out.contains("jobs: 0 sealed anew"), "{done:?}");
    let app = serving(&database, NEW).await;
    assert_eq!(take(&app).await["password"], "password-of-the-job");
    let answer = json(app.get(&format!("/messages{JOBS}/1/credential_responses")).await, 200).await;
    assert_eq!(answer["message"], "code-of-the-owner");
    for path in
        ["/queues/signed", "/stores/s1/endpoints/e", "/stores/s1/parameters/p", "/stores/s1/pollers/shop"]
    {
        let shown = json(app.get(path).await, 200).await;
        json(app.put(path, &shown).await, 200).await;
    }
    let done = rotate(&database, NEW).await;
    assert!(done.ok, "{done:?}");
    db.execute("UPDATE parameters SET key_id = 'nobody'").await.unwrap();
    let done = rotate(&database, NEW).await;
    assert!(!done.ok && done.out.contains("parameters: 1 left under the key nobody"), "{done:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_goes_on_where_it_was_beside_servers_that_work() {
    let app = TestApp::start().await;
    put_secrets(&app).await;
    for n in 0..20 {
        let job = json!({ "cardholder_id": 1, "data": { "n": n } });
        json(app.post(JOBS, &job).await, 201).await;
    }
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    let app = serving(&database, &both()).await;

    // It comes to a row that somebody holds, and is killed.
    let mut holder = app.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM jobs WHERE id = 11 FOR UPDATE").await.unwrap();
    let mut running = rotating(&database, &both(), "60s").await.spawn().unwrap();
    app.waits_for_a_lock("UPDATE jobs SET data").await;
    running.kill().await.unwrap();
    let done: (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE id < 11 AND key_id <> first), count(*) FILTER (WHERE id > 11 AND key_id <> first)
        FROM jobs, (SELECT key_id AS first FROM jobs WHERE id = 22) AS former",
    )
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert_eq!(done, (10, 0), "those before it are sealed anew, none behind it");

    // Servers with both keys go on: what is sealed anew is taken as what is not.
    assert_eq!(take(&app).await["password"], "password-of-the-job");
    assert_eq!(take(&app).await["n"], 0);
    json(app.put("/queues/signed", &json(app.get("/queues/signed").await, 200).await).await, 200).await;
    // Whoever holds one for long keeps no other from it.
    let done = finish(rotating(&database, &both(), "100ms").await, "").await;
    assert!(!done.ok && done.out.contains("jobs: 1 left, held by other transactions"), "{done:?}");
    holder.execute("ROLLBACK").await.unwrap();
    let done = rotate(&database, &both()).await;
    assert!(done.ok, "{done:?}");
    assert!(sealed(&mut db).await.ends_with("rows, 1 keys"));
    app.stop().await;

    let app = serving(&database, NEW).await;
    let mut left: BTreeSet<u64> = (1..20).collect();
    while !left.is_empty() {
        let data = take(&app).await;
        assert!(data.is_object(), "{left:?} are not there");
        data["n"].as_u64().map(|n| left.remove(&n));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_end_and_definitions_that_are_put_meanwhile_are_not_undone_by_a_rotation() {
    let app = TestApp::start().await;
    put_secrets(&app).await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    let app = serving(&database, &both()).await;
    let mut holder = app.connect().await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM jobs WHERE id = 1 FOR UPDATE").await.unwrap();
    let mut running = rotating(&database, &both(), "60s").await;
    let mut runs = JoinSet::new();
    runs.spawn(async move { running.output().await.unwrap() });
    app.waits_for_a_lock("UPDATE jobs SET data").await;
    // It has read what it would write: the job ends before it does, and another password is put.
    holder.execute(r#"SELECT broadcast(1, '{"termination_type": "BILLABLE"}'::jsonb)"#).await.unwrap();
    let other = json!({ "value": "put-meanwhile", "data_type": "password" });
    json(app.put("/stores/s1/parameters/p", &other).await, 200).await;
    holder.execute("COMMIT").await.unwrap();
    let output = runs.join_next().await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(ask::<bool>(&mut db, "SELECT data IS NULL AND key_id IS NULL FROM jobs WHERE id = 1").await);
    app.stop().await;
    let app = serving(&database, NEW).await;
    assert_eq!(take(&app).await["password"], "password-of-the-job");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_key_sealed_waits_and_says_so_and_is_there_when_the_key_is_back() {
    let service = Scripted::agreeable().await;
    let app = TestApp::start().await;
    put_secrets(&app).await;
    app.endpoint("plain", &service.url, json!({})).await;
    let once = json!({ "parameters": ["p"], "options": { "max_attempts": 1 } });
    app.mapping("once", "plain", &["payment:new"], once).await;
    let database = app.database.clone();
    app.stop().await;

    let app = serving(&database, NEW).await;
    // A definition whose secret cannot be opened is shown, and what needs it says why it cannot be done.
    let shown = json(app.get("/stores/s1/endpoints/e").await, 200).await;
    let refused = refusal(app.put("/stores/s1/endpoints/e", &shown).await, 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("not among POSTRIDER_SECRET_KEY"), "{refused}");
    let refused = refusal(app.get(&format!("/messages{JOBS}/1/credential_responses")).await, 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("not among POSTRIDER_SECRET_KEY"), "{refused}");
    // One stand-in alone stays what it is.
    for path in ["/queues/signed", "/stores/s1/parameters/p", "/stores/s1/pollers/shop"] {
        let shown = json(app.get(path).await, 200).await;
        json(app.put(path, &shown).await, 200).await;
    }
    // What is pushed is taken, and waits: nobody claims it here.
    let message = app.push("signed", &json!(1)).await;
    let order = app.tell("order:new", json!({})).await;
    let payment = app.tell("payment:new", json!({})).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(app.message("signed", &message).await["status"], "PENDING");
    for id in [&order, &payment] {
        let told = app.told(id).await;
        assert_eq!(
            (&told["deliveries"][0]["status"], &told["deliveries"][0]["attempts"]),
            (&json!("PENDING"), &json!(0))
        );
    }
    let none = json(app.post(&format!("{JOBS}/claim"), &json!({})).await, 200).await;
    assert_eq!(none, json!([]));
    app.stop().await;

    let app = serving(&database, &both()).await;
    assert_eq!(take(&app).await["password"], "password-of-the-job");
    let answer = json(app.get(&format!("/messages{JOBS}/1/credential_responses")).await, 200).await;
    assert_eq!(answer["message"], "code-of-the-owner");
    // All are sent, two of them to where nobody answers.
    app.elapse(Duration::from_mins(1)).await;
    app.delivered(&payment, "COMPLETE").await;
    eventually("the delivery is tried", async || {
        app.told(&order).await["deliveries"][0]["attempts"].as_i64() > Some(0)
    })
    .await;
    eventually("the message is tried", async || {
        app.whole_message("signed", &message).await["attempts"].as_i64() > Some(0)
    })
    .await;
    app.stop().await;
}

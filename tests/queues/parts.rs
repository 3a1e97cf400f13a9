//! What is too much for one statement is done in parts: pushes, and messages that are run again.

use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::sync::Arc;
use tokio::task::JoinSet;

/// An instance whose statements may take 2 s, with a queue that nothing is claimed from.
async fn start() -> TestApp {
    let database = database().await.options([("statement_timeout", "2s")]);
    let app = TestApp::on(database, &[], |app| app).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_takes_too_long_fails_alone() {
    let app = Arc::new(start().await);
    let mut db = app.connect().await;
    sqlx::raw_sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.request::text = '\"poison\"' THEN
                PERFORM pg_sleep(60);
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    .execute(&mut db)
    .await
    .unwrap();
    let push = |body: Value| {
        let app = Arc::clone(&app);
        async move { (app.post("/queues/q/messages", &body).await.status().as_u16(), body) }
    };
    // While the first waits for a lock the others gather, and then go together.
    let mut holder = app.connect().await;
    let mut lock = holder.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE dispatch IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let mut pushes = JoinSet::new();
    pushes.spawn(push(json!("first")));
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'dispatch'::regclass AND NOT granted";
    eventually("the first waits", async || ask::<i64>(&mut db, waiting).await > 0).await;
    for n in 0..20 {
        pushes.spawn(push(if n == 7 { json!("poison") } else { json!(n) }));
    }
    for _ in 0..20 {
        json(app.get("/queues/q").await, 200).await;
    }
    lock.commit().await.unwrap();
    for (status, body) in pushes.join_all().await {
        assert_eq!(status, if body == "poison" { 503 } else { 201 }, "{body}");
    }
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM messages").await, 20);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 20);
    Arc::into_inner(app).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_run_again_in_parts_oldest_first_each_once() {
    let app = start().await;
    let mut db = app.connect().await;
    // A thousand messages in ERROR; to move the history of all takes longer than a statement may.
    sqlx::raw_sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(0.005);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION slow();
        WITH made AS (
            INSERT INTO messages (queue_id, id, request)
            SELECT queues.id, uuid_v7(now() - interval '1 hour' + n * interval '1 second'), to_json(n)
            FROM queues CROSS JOIN generate_series(1, 1000) AS n
            RETURNING queue_id, id
        )
        INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, status, ending, error)
        SELECT queue_id, 1, id, gen_random_uuid(), now(), 'ERROR', 'failed', '7'
        FROM made",
    )
    .execute(&mut db)
    .await
    .unwrap();
    let retry = async |limit: u16| {
        json(app.post(&format!("/queues/q/messages:retry?limit={limit}"), &json!(null)).await, 200).await
    };
    assert_eq!(retry(700).await, json!({ "retried": 700, "more": true }));
    let oldest = "SELECT bool_and(request::text::integer <= 700) FROM messages JOIN dispatch ON item = id";
    assert!(ask::<bool>(&mut db, oldest).await);
    assert_eq!(retry(1000).await, json!({ "retried": 300, "more": false }));
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 1000);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(DISTINCT item) FROM dispatch").await, 1000);
    app.stop().await;
}

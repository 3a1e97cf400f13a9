//! What is left when messages, queues and weeks go: nothing.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

/// Everything that lies in the engine's tables.
const LEFT: &str = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled) \
                    + (SELECT count(*) FROM leases)";
/// One more instance, which tidies up when it starts.
async fn tidier(app: &TestApp) -> TestApp {
    // The duty of tidying up is the first one's until it is long overdue.
    act(&mut app.connect().await, "UPDATE duties SET until = until - interval '1 day'").await;
    TestApp::on(app.database.clone(), &[], |app| app).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_deleted_between_claim_and_load_leaves_no_lease() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let id = app.push("q", &json!("hello")).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    // A claim needs dispatch and leases alone; loading needs the message.
    let mut deletes = holder.begin().await.unwrap();
    act(&mut deletes, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE; DELETE FROM messages").await;
    app.post("/queues/q/resume", &json!(null)).await;
    eventually("it is claimed", async || ask::<i64>(&mut db, "SELECT count(*) FROM leases").await == 1).await;
    deletes.commit().await.unwrap();
    eventually("the lease ends", async || ask::<i64>(&mut db, LEFT).await == 0).await;
    assert_eq!(app.get(&format!("/queues/q/messages/{id}")).await.status(), 404);
    app.handled("q", &json!("next")).await;
    assert_eq!(gate.begun().len(), 1, "the room came back, and only the next one ran");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_never_runs_and_leaves_nothing() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let mut ids = push_all(&app, "/queues/q/messages:batch", &[json!("runs"), json!("waits")]).await;
    ids.extend(push_all(&app, "/queues/q/messages:batch?delay=1h", &[json!("scheduled")]).await);
    gate.until_running(1).await;
    // Those that wait first: the place of the one that runs would be theirs.
    for id in ids.iter().rev() {
        assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    }
    gate.until_running(0).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 1);
    assert_eq!(ask::<i64>(&mut app.connect().await, LEFT).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_leaves_nothing_once_it_was_tidied_up() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    let messages = ["a", "b", "c", "d"].map(|body| json!(body));
    push_all(&app, "/queues/q/messages:batch", &messages).await;
    push_all(&app, "/queues/q/messages:batch?delay=1h", &messages).await;
    gate.until_running(2).await;
    assert_eq!(app.delete("/queues/q").await.status(), 204);
    // The new queue of the same name has nothing to do with it.
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    gate.open_up();
    let message = app.handled("q", &json!("new")).await;
    assert_eq!(message["status"], "COMPLETE");
    assert_eq!(
        gate.begun().iter().filter(|begun| begun.request != "new").count(),
        2,
        "what waited never ran"
    );
    let tidier = tidier(&app).await;
    let mut db = app.connect().await;
    eventually("nothing is left", async || ask::<i64>(&mut db, LEFT).await == 0).await;
    tidier.stop().await;
    app.stop().await;
}

/// Makes the week that begins on a day of the past, with a message in it that has ended.
async fn past_week(app: &TestApp, suffix: &str, monday: &str) -> Uuid {
    let mut db = app.connect().await;
    for table in ["messages", "outcomes", "attempts"] {
        let statement = format!(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE {table}_{suffix} PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)', \
             uuid_v7_floor('{monday}'), uuid_v7_floor(timestamptz '{monday}' + interval '7 days')); END $$"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut db).await.unwrap();
    }
    let statement = format!(
        "WITH message AS (
            INSERT INTO messages (queue_id, id, request)
            SELECT id, uuid_v7(timestamptz '{monday}' + interval '1 day'), '1' FROM queues
            RETURNING queue_id, id
        ), outcome AS (
            INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, finished_at, status, ending, result)
            SELECT queue_id, 1, id, gen_random_uuid(), '{monday}', '{monday}', 'COMPLETE', 'completed', '2' FROM message
        ) SELECT id FROM message"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_go_when_every_retention_is_over_and_nothing_in_them_lives() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m", "retention": "1h" }))).await;
    let old = past_week(&app, "2020_10", "2020-03-02 00:00+00").await;
    let living = past_week(&app, "2021_10", "2021-03-08 00:00+00").await;
    let mut db = app.connect().await;
    act(
        &mut db,
        "INSERT INTO idempotency_keys (queue_id, key, digest, message_id, created_at) \
                  SELECT id, 'old', 'x', uuid_v7(), '2020-03-03' FROM queues",
    )
    .await;
    assert_eq!(app.message("q", &old.to_string()).await["result"], 2);
    // A message of the second week is run again by hand, and runs.
    act(
        &mut db,
        "UPDATE outcomes_2021_10 SET status = 'ERROR', ending = 'failed', result = NULL, error = '3'",
    )
    .await;
    assert_eq!(app.post(&format!("/queues/q/messages/{living}/retry"), &json!(null)).await.status(), 200);
    gate.until_running(1).await;

    let first = tidier(&app).await;
    let weeks = "SELECT count(*) FROM pg_class WHERE relname ~ '_202[01]_10$' AND relkind = 'r'";
    eventually("one week goes", async || ask::<i64>(&mut db, weeks).await == 3).await;
    eventually("the keys go", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM idempotency_keys").await == 0
    })
    .await;
    assert_eq!(app.get(&format!("/queues/q/messages/{old}")).await.status(), 404);
    gate.open_up();
    let message = ended(&app, "q", &living.to_string()).await;
    assert_eq!((&message["request"], &message["result"]), (&json!(1), &json!(1)), "{message}");
    app.server.run_until_idle().await.unwrap();
    first.stop().await;

    // It ended just now, and is kept for as long as its queue says.
    act(&mut db, "UPDATE outcomes_2021_10 SET finished_at = finished_at - interval '2 hours'").await;
    let second = tidier(&app).await;
    eventually("the other week goes", async || ask::<i64>(&mut db, weeks).await == 0).await;
    assert_eq!(app.get(&format!("/queues/q/messages/{living}")).await.status(), 404);
    let handled = app.handled("q", &json!("today")).await;
    assert_eq!(handled["status"], "COMPLETE", "today's are not touched");
    second.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_makes_the_weeks_to_come_and_lives_with_strays() {
    let database = database().await;
    let app = TestApp::on(database.clone(), &[], |app| app).await;
    let ahead = "SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = 'messages'::regclass AND c.relname <> 'messages_default'";
    let mut db = app.connect().await;
    let weeks: i64 = ask(&mut db, ahead).await;
    assert!(weeks >= 2, "{weeks}");
    let drop_all = "DO $$ DECLARE child regclass; BEGIN FOR child IN SELECT inhrelid::regclass FROM pg_inherits \
                    WHERE inhparent IN ('messages'::regclass, 'outcomes'::regclass, 'attempts'::regclass) \
                    AND inhrelid::regclass::text NOT LIKE '%default' LOOP EXECUTE 'DROP TABLE ' || child; \
                    END LOOP; END $$";
    act(&mut db, drop_all).await;
    assert_eq!(ask::<i64>(&mut db, ahead).await, 0);
    // What is pushed now has no week of its own: it is found all the same.
    app.define("q", work(json!({}))).await;
    let stray = app.push("q", &json!("stray")).await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM messages_default").await, 1);
    let gate = Gate::open();
    let other = TestApp::on(database, &[], |app| app.handler("work", gate.handler())).await;
    assert_eq!(ended(&other, "q", &stray).await["status"], "COMPLETE");
    assert_eq!(ask::<i64>(&mut db, ahead).await, weeks - 1, "all but the week of the stray");
    let listed: serde_json::Value = other.get("/queues/q/messages").await.json().await.unwrap();
    assert_eq!(listed["messages"][0]["id"], stray);
    let next = other.handled("q", &json!("next")).await;
    assert_eq!(next["status"], "COMPLETE");
    other.stop().await;
    app.stop().await;
}

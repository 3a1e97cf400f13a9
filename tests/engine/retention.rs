//! Weeks of messages: made ahead, dropped when their time is over. What must stay does not keep what may go.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::weeks::{make_week, past_weeks, tidier, untidy};
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::Duration;
use uuid::Uuid;

/// Makes the week that begins on this Monday of the past, with two messages in it that have ended.
async fn past_week(app: &TestApp, monday: &str) -> Vec<Uuid> {
    let mut db = app.connect().await;
    make_week(&mut db, "queues", monday).await;
    let statement = format!(
        "WITH message AS (
            INSERT INTO messages (queue_id, id, request)
            SELECT id, uuid_v7(timestamptz '{monday}' + interval '1 day'), '1' FROM queues, generate_series(1, 2)
            RETURNING queue_id, id
        ), outcome AS (
            INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, finished_at, status, ending, result)
            SELECT queue_id, 1, id, gen_random_uuid(), '{monday}', '{monday}', 'COMPLETE', 'completed', '2' FROM message
        ) SELECT id FROM message ORDER BY id"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&mut db).await.unwrap()
}

async fn status(app: &TestApp, id: Uuid) -> u16 {
    app.get(&format!("/queues/q/messages/{id}")).await.status().as_u16()
}

async fn listed(app: &TestApp) -> Vec<String> {
    let page: Value = app.get("/queues/q/messages").await.json().await.unwrap();
    page["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_go_when_every_retention_is_over_and_a_message_that_runs_stays_until_its_own_is() {
    let gate = Gate::shut();
    let app = untidy(|app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m", "retention": "1h" }))).await;
    let old = past_week(&app, "2020-03-02 00:00+00").await;
    let [living, dead] = past_week(&app, "2021-03-08 00:00+00").await[..] else { panic!() };
    let mut db = app.connect().await;
    act(
        &mut db,
        "INSERT INTO idempotency_keys (queue_id, key, digest, message_id, created_at) \
                  SELECT id, 'old', 'x', uuid_v7(), '2020-03-03' FROM queues",
    )
    .await;
    assert_eq!(app.message("q", &old[0].to_string()).await["result"], 2);
    // A message of the second week is run again by hand, and runs.
    act(
        &mut db,
        "UPDATE outcomes_2021_10 SET status = 'ERROR', ending = 'failed', result = NULL, error = '3'",
    )
    .await;
    assert_eq!(app.post(&format!("/queues/q/messages/{living}/retry"), &json!(null)).await.status(), 200);
    gate.until_running(1).await;

    let first = tidier(&app).await;
    eventually("both weeks go", async || past_weeks(&mut db).await == 0).await;
    eventually("the keys go", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM idempotency_keys").await == 0
    })
    .await;
    assert_eq!(
        (status(&app, old[0]).await, status(&app, old[1]).await, status(&app, dead).await),
        (404, 404, 404)
    );
    assert_eq!(app.message("q", &living.to_string()).await["status"], "INPROGRESS");
    gate.open_up();
    let message = ended(&app, "q", &living.to_string()).await;
    assert_eq!((&message["request"], &message["result"]), (&json!(1), &json!(1)), "{message}");
    let whole = app.whole_message("q", &living.to_string()).await;
    assert_eq!(whole["history"].as_array().unwrap().len(), 2, "what was tried before came with it: {whole}");
    app.server.run_until_idle().await.unwrap();
    first.stop().await;

    // It ended just now, and is kept for as long as its queue says.
    let second = tidier(&app).await;
    let looked = "SELECT count(*) FROM duties WHERE name = 'retention' AND until > now()";
    eventually("it was looked at", async || ask::<i64>(&mut db, looked).await == 1).await;
    assert_eq!(listed(&app).await, [living.to_string()]);
    second.stop().await;
    act(&mut db, "UPDATE outcomes_default SET finished_at = finished_at - interval '2 hours'").await;
    let third = tidier(&app).await;
    eventually("it goes", async || status(&app, living).await == 404).await;
    let left = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM outcomes) + (SELECT count(*) FROM attempts)";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    let handled = app.handled("q", &json!("today")).await;
    assert_eq!(handled["status"], "COMPLETE", "today's are not touched");
    third.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_scheduled_far_ahead_outlives_its_week_and_runs_in_its_time() {
    let gate = Gate::open();
    let app = untidy(|app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "retention": "1h" }))).await;
    let [one, other] = past_week(&app, "2020-03-02 00:00+00").await[..] else { panic!() };
    past_week(&app, "2021-03-08 00:00+00").await;
    let mut db = app.connect().await;
    let schedule = format!(
        "DELETE FROM outcomes WHERE id = '{one}';
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + interval '1 year', queue_id, 0, id FROM messages WHERE id = '{one}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(schedule)).execute(&mut db).await.unwrap();
    let tidier = tidier(&app).await;
    eventually("both weeks go", async || past_weeks(&mut db).await == 0).await;
    assert_eq!(status(&app, other).await, 404);
    assert_eq!(app.message("q", &one.to_string()).await["status"], "PENDING");
    assert_eq!(listed(&app).await, [one.to_string()]);
    act(&mut db, "UPDATE scheduled SET run_at = now(); NOTIFY postrider_postrider").await;
    assert_eq!(ended(&app, "q", &one.to_string()).await["status"], "COMPLETE");
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_came_late_is_kept_as_long_as_every_other() {
    let app = untidy(|app| app).await;
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "retention": "30d" } })).await;
    let [late, _] = past_week(&app, "2020-03-02 00:00+00").await[..] else { panic!() };
    let mut db = app.connect().await;
    // It is claimed and completed today.
    let again = format!(
        "DELETE FROM outcomes WHERE id = '{late}';
        INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM messages WHERE id = '{late}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(again)).execute(&mut db).await.unwrap();
    let claim: Value = app.post("/queues/q/claim", &json!(null)).await.json().await.unwrap();
    let path = format!("/queues/q/messages/{late}/complete");
    let end = json!({ "lease": claim[0]["lease"], "result": "today" });
    assert_eq!(app.post(&path, &end).await.status(), 204, "{claim}");
    let tidier = tidier(&app).await;
    eventually("the week goes", async || past_weeks(&mut db).await == 0).await;
    assert_eq!(app.message("q", &late.to_string()).await["result"], "today");
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_an_old_week_for_long_keeps_it_and_stops_nobody() {
    let app = untidy(|app| app).await;
    app.define("q", json!({ "options": { "retention": "1h" } })).await;
    past_week(&app, "2020-03-02 00:00+00").await;
    past_week(&app, "2021-03-08 00:00+00").await;
    let (mut reader, mut db) = (app.connect().await, app.connect().await);
    let mut dump = reader.begin().await.unwrap();
    act(&mut dump, "LOCK TABLE messages_2020_10 IN ACCESS SHARE MODE").await;
    let tidier = tidier(&app).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' \
                 AND relation = 'messages_2020_10'::regclass)";
    let noted = "SELECT count(*) FROM weeks WHERE state = 'leaving' AND note LIKE '%in use%'";
    eventually("it is noted", async || {
        assert!(!ask::<bool>(&mut db, waits).await, "nobody waits behind the reader");
        ask::<i64>(&mut db, noted).await == 1
    })
    .await;
    eventually("the other week goes", async || past_weeks(&mut db).await == 1).await;
    app.push("q", &json!("goes on")).await;
    tidier.stop().await;
    dump.commit().await.unwrap();
    let next = self::tidier(&app).await;
    eventually("it goes", async || past_weeks(&mut db).await == 0).await;
    next.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_that_cannot_be_dropped_keeps_no_other_and_nothing_else() {
    let app = untidy(|app| app).await;
    app.define("q", json!({ "options": { "retention": "1h" } })).await;
    past_week(&app, "2020-03-02 00:00+00").await;
    past_week(&app, "2021-03-08 00:00+00").await;
    let mut db = app.connect().await;
    act(
        &mut db,
        "CREATE VIEW somebodys AS SELECT count(*) FROM messages_2020_10;
        INSERT INTO idempotency_keys (queue_id, key, digest, message_id, created_at)
        SELECT id, 'old', 'x', uuid_v7(), '2020-03-03' FROM queues",
    )
    .await;
    let tidier = tidier(&app).await;
    let noted = "SELECT count(*) FROM weeks WHERE state = 'leaving' AND note LIKE '%depend%'";
    eventually("it is noted", async || ask::<i64>(&mut db, noted).await == 1).await;
    eventually("the other week goes", async || past_weeks(&mut db).await == 1).await;
    eventually("the keys go", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM idempotency_keys").await == 0
    })
    .await;
    tidier.stop().await;
    act(&mut db, "DROP VIEW somebodys").await;
    app.stop().await;
}

/// Drops every week, as if nobody had made any for long.
const DROP_ALL: &str = "DO $$ DECLARE child regclass; BEGIN
    FOR child IN SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('messages'::regclass, 'outcomes'::regclass, 'attempts'::regclass)
            AND inhrelid::regclass::text NOT LIKE '%default'
    LOOP EXECUTE 'DROP TABLE ' || child; END LOOP;
    DELETE FROM weeks WHERE feature = 'queues';
    END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_start_makes_the_weeks_to_come_and_moves_what_lies_outside_into_its_own() {
    let database = database().await;
    let app = TestApp::on(database.clone(), &[], |app| app).await;
    let ahead = "SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = 'messages'::regclass AND c.relname <> 'messages_default'";
    let mut db = app.connect().await;
    let weeks: i64 = ask(&mut db, ahead).await;
    assert!(weeks >= 2, "{weeks}");
    act(&mut db, DROP_ALL).await;
    assert_eq!(ask::<i64>(&mut db, ahead).await, 0);
    // What is pushed now has no week of its own: it is found all the same.
    app.define("q", work(json!({}))).await;
    let stray = app.push("q", &json!("stray")).await;
    let outside = "SELECT (SELECT count(*) FROM messages_default) + (SELECT count(*) FROM outcomes_default)";
    assert_eq!(ask::<i64>(&mut db, outside).await, 1);
    // Last week no server ran, and an application went on.
    let last_week = "WITH m AS (
            INSERT INTO messages (queue_id, id, request)
            SELECT id, uuid_v7(now() - interval '7 days'), '\"last week\"' FROM queues RETURNING queue_id, id
        ) INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM m";
    act(&mut db, last_week).await;
    // And once a clock was ten days ahead.
    let ahead_of_time = "INSERT INTO messages (queue_id, id, request)
        SELECT id, uuid_v7(now() + interval '10 days'), '1' FROM queues";
    act(&mut db, ahead_of_time).await;
    let gate = Gate::open();
    let other = TestApp::on(database, &[], |app| app.handler("work", gate.handler())).await;
    let tidier = tidier(&other).await;
    assert_eq!(ended(&other, "q", &stray).await["status"], "COMPLETE");
    eventually("every row is in its week", async || ask::<i64>(&mut db, outside).await == 0).await;
    assert_eq!(ask::<i64>(&mut db, ahead).await, weeks + 1, "the week before, and all that were there");
    let other_week = listed(&other).await;
    assert_eq!((other_week.len(), &other_week[1]), (3, &stray));
    assert_eq!(ended(&other, "q", &other_week[2]).await["status"], "COMPLETE");
    let next = other.handled("q", &json!("next")).await;
    assert_eq!(next["status"], "COMPLETE");
    tidier.stop().await;
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_no_row_that_moves_into_its_week_and_the_upkeep_says_that_they_move() {
    let database = database().await;
    let app = TestApp::on(database.clone(), &[], |app| app).await;
    app.define("q", json!({})).await;
    let mut db = app.connect().await;
    app.stop().await;
    act(&mut db, DROP_ALL).await;
    // More than may move at once, and nothing moves as long as the gate is there.
    let many = "INSERT INTO messages (queue_id, id, request)
        SELECT id, uuid_v7(date_trunc('week', now()) + n * interval '1 second'), '1'
        FROM queues, generate_series(1, 25000) AS n;
        CREATE TABLE gate ();
        INSERT INTO gate DEFAULT VALUES;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP;
            RETURN OLD;
        END $$;
        CREATE TRIGGER wait BEFORE DELETE ON messages_default FOR EACH ROW EXECUTE FUNCTION wait()";
    act(&mut db, many).await;
    let start = TestApp::on(database, &[], |app| app);
    let app = tokio::time::timeout(Duration::from_secs(20), start).await.expect("it waits for nothing");
    assert_eq!(app.get("/readyz").await.status(), 200);
    let noted =
        "SELECT count(*) FROM duties WHERE name = 'retention' AND note LIKE '%moves rows into their weeks%'
        AND noted_at <= now()";
    eventually("it is told", async || ask::<i64>(&mut db, noted).await == 1).await;
    let moved = "SELECT count(*) FROM weeks
        WHERE feature = 'queues' AND starts <= date_trunc('week', now()) + interval '25000 seconds'";
    assert_eq!(ask::<i64>(&mut db, moved).await, 0);
    act(&mut db, "DELETE FROM gate").await;
    let outside = "SELECT count(*) FROM messages_default";
    eventually("every row is in its week", async || ask::<i64>(&mut db, outside).await == 0).await;
    eventually("nothing is noted", async || ask::<i64>(&mut db, noted).await == 0).await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM messages").await, 25_000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_to_be_moved_at_once_gets_its_week_in_pieces() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    act(&mut db, DROP_ALL).await;
    app.define("q", json!({})).await;
    let many = "INSERT INTO messages (queue_id, id, request)
        SELECT id, uuid_v7(date_trunc('week', now()) + n * interval '1 second'), '1'
        FROM queues, generate_series(1, 45000) AS n";
    act(&mut db, many).await;
    let other = tidier(&app).await;
    let outside = "SELECT count(*) FROM messages_default";
    eventually("every row is in its week", async || ask::<i64>(&mut db, outside).await == 0).await;
    let pieces = "SELECT count(*) FROM weeks WHERE feature = 'queues' AND ends - starts < interval '7 days'";
    assert!(ask::<i64>(&mut db, pieces).await > 2);
    let holes = "SELECT count(*) FROM (
            SELECT starts, lag(ends) OVER (ORDER BY starts) AS before FROM weeks WHERE feature = 'queues'
        ) AS w WHERE starts <> before";
    assert_eq!(ask::<i64>(&mut db, holes).await, 0);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM messages").await, 45_000);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_queue_left_outside_the_weeks_goes() {
    let app = untidy(|app| app).await;
    app.define("q", json!({ "options": { "retention": "1h" } })).await;
    push_all(&app, "/queues/q/messages:batch?delay=1h", &[json!(1)]).await;
    let mut db = app.connect().await;
    act(
        &mut db,
        "INSERT INTO messages (queue_id, id, request) SELECT id, uuid_v7('2020-03-03'), '1' FROM queues",
    )
    .await;
    let outside = "SELECT count(*) FROM messages_default";
    assert_eq!(ask::<i64>(&mut db, outside).await, 1);
    assert_eq!(app.delete("/queues/q").await.status(), 204);
    let tidier = tidier(&app).await;
    eventually("it goes", async || ask::<i64>(&mut db, outside).await == 0).await;
    tidier.stop().await;
    app.stop().await;
}

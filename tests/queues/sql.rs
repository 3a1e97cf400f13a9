//! `postrider.enqueue` in anybody's own transaction.

use crate::support::answer::json;
use crate::support::app::TestApp;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgDatabaseError, PgListener};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::collections::BTreeSet;
use std::time::Duration;

/// A session as an application has it: with a search path of its own.
async fn session(app: &TestApp) -> PgConnection {
    let options = app.database.clone().options([("search_path", "pg_temp, public")]);
    PgConnection::connect_with(&options).await.unwrap()
}

/// Calls `postrider.enqueue` with these arguments; returns the id.
async fn enqueue(db: &mut PgConnection, arguments: &str) -> sqlx::Result<String> {
    let call = format!("SELECT postrider.enqueue({arguments})::text");
    sqlx::query_scalar(AssertSqlSafe(call)).fetch_one(db).await
}

async fn count(app: &TestApp, queue: &str) -> usize {
    json(app.get(&format!("/queues/{queue}/messages")).await, 200).await["messages"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueued_message_is_there_when_its_transaction_commits_and_only_then() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => ({ got: m })").await;
    let mut db = session(&app).await;
    db.execute("CREATE TEMP TABLE orders (n int); CREATE TEMP TABLE queues (n int)").await.unwrap();
    for (end, expected) in [("ROLLBACK", 0), ("COMMIT", 1)] {
        db.execute("BEGIN; INSERT INTO orders VALUES (1)").await.unwrap();
        let id = enqueue(&mut db, r#"'q', '{"a":  1.0}'"#).await.unwrap();
        assert_eq!(app.get(&format!("/queues/q/messages/{id}")).await.status(), 404, "not before the commit");
        db.execute(end).await.unwrap();
        assert_eq!(count(&app, "q").await, expected, "{end}");
        if end == "COMMIT" {
            assert_eq!(app.ended("q", &id).await["result"], json!({ "got": { "a": 1 } }));
            let read = app.get(&format!("/queues/q/messages/{id}")).await.text().await.unwrap();
            assert!(read.contains(r#""request":{"a":  1.0},"#), "{read}");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueued_message_is_validated_by_the_schema_before_it_runs() {
    let app = TestApp::start().await;
    let schema =
        json!({ "type": "object", "properties": { "a": { "type": "integer" }, "b": { "maxLength": 1 } } });
    let native = json!({ "kind": "native", "name": "never" });
    let javascript = json!({ "kind": "javascript", "source": "module.exports = () => 'ran'" });
    let never = async |_| Ok(json!("ran"));
    let with_native = TestApp::on(app.database.clone(), &[], |app| app.handler("never", never)).await;
    let mut db = session(&app).await;
    for (queue, handler) in [("javascript", javascript), ("native", native)] {
        app.define(queue, json!({ "incoming": { "schema": schema }, "handler": handler })).await;
        let bad = enqueue(&mut db, &format!(r#"'{queue}', '{{"a":"s3cr3t","b":"s3cr3t"}}'"#)).await.unwrap();
        let message = app.ended(queue, &bad).await;
        let error = &message["error"];
        assert_eq!(
            (&message["status"], &error["name"]),
            (&json!("ERROR"), &json!("ValidationError")),
            "{message}"
        );
        assert!(!error.to_string().contains("s3cr3t"));
        let places: Vec<&Value> =
            error["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
        assert_eq!(places, ["/a", "/b"]);
        let good = enqueue(&mut db, &format!(r#"'{queue}', '{{"a":1}}'"#)).await.unwrap();
        assert_eq!(app.ended(queue, &good).await["result"], "ran");
    }
    with_native.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enqueue_knows_delay_moment_priority_and_key() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("urgent", json!({ "options": { "priority": 9 } })).await;
    let mut db = session(&app).await;
    for (arguments, priority) in
        [("'urgent', '1'", 9), ("'urgent', '1', priority => 0", 0), ("'q', '1', '1s'", 0)]
    {
        let id = enqueue(&mut db, arguments).await.unwrap();
        let queue = if arguments.contains("urgent") { "urgent" } else { "q" };
        assert_eq!(app.whole_message(queue, &id).await["priority"], priority, "{arguments}");
        app.delete(&format!("/queues/{queue}/messages/{id}")).await;
    }
    for arguments in [
        "'q', '1', delay => '1 hour'",
        "queue => 'q', payload => '1', run_at => now() + interval '1 hour'",
        "'q', '1', '1 hour'",
    ] {
        let id = enqueue(&mut db, arguments).await.unwrap();
        let full = app.whole_message("q", &id).await;
        let time = |key: &str| full[key].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert!(
            ((time("run_at") - time("created_at")).num_seconds() - 3600).abs() < 60,
            "{arguments}: {full}"
        );
    }
    for arguments in [
        "'q', '\"low\"', priority => -5",
        "'q', '\"high\"', priority => 5",
        "'q', '\"past\"', delay => '-1 hour'",
    ] {
        enqueue(&mut db, arguments).await.unwrap();
    }
    let claimed = json(app.post("/queues/q/claim?max=10&wait=30s", &json!(null)).await, 200).await;
    let order: Vec<&Value> = claimed.as_array().unwrap().iter().map(|message| &message["request"]).collect();
    assert_eq!(order, ["high", "past", "low"]);

    let first = enqueue(&mut db, "'q', '{\"a\":1}', idempotency_key => 'k'").await.unwrap();
    assert_eq!(enqueue(&mut db, "'q', '{\"a\":1}', idempotency_key => 'k'").await.unwrap(), first);
    assert_eq!(code(enqueue(&mut db, "'q', '2', idempotency_key => 'k'").await), "23505");
    // The key is the same one that HTTP knows.
    let request = app.request(axum::http::Method::POST, "/queues/q/messages").header("idempotency-key", "k");
    let again = request.header("content-type", "application/json").body(r#"{"a":1}"#).send().await.unwrap();
    assert_eq!(json(again, 200).await["id"], *first);
    app.elapse(Duration::from_secs(3700)).await;
    let claimed = json(app.post("/queues/q/claim?max=10&wait=30s", &json!(null)).await, 200).await;
    assert!(!claimed.as_array().unwrap().is_empty());
    app.stop().await;
}

fn code(refused: sqlx::Result<String>) -> String {
    let error = refused.unwrap_err();
    error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>().code().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_enqueued_is_an_error_of_the_callers_statement() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => m").await;
    let mut db = session(&app).await;
    let table = [
        ("'nowhere', '1'", "P0002"),
        ("NULL, '1'", "P0002"),
        ("'q', NULL", "22004"),
        ("'q', '{'", "22P02"),
        ("'q', ''", "22P02"),
        ("'q', '1', priority => 101", "22023"),
        ("'q', '1', priority => -101", "22023"),
        ("'q', '1', run_at => 'infinity'", "22023"),
        ("'q', '1', run_at => '-infinity'", "22023"),
        ("'q', '1', run_at => '9999-12-31'", "22023"),
        ("'q', '1', delay => '11 years'", "22023"),
        ("'q', '1', delay => '1s', run_at => now()", "22023"),
        ("'q', '1', idempotency_key => ''", "23514"),
        ("'q', '1', idempotency_key => repeat('k', 256)", "23514"),
    ];
    for (arguments, expected) in table {
        assert_eq!(code(enqueue(&mut db, arguments).await), expected, "{arguments}");
    }
    assert_eq!(count(&app, "q").await, 0);
    // The engine goes on.
    let id = enqueue(&mut db, "'q', '1', run_at => '0001-01-01'").await.unwrap();
    assert_eq!(app.ended("q", &id).await["status"], "COMPLETE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_comes_as_json_jsonb_or_text_however_it_is_bound() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = session(&app).await;
    for arguments in
        ["'q', '{\"n\":1}'", "'q', '{\"n\":2}'::jsonb", "'q', '{\"n\":3}'::json", "'q', '{\"n\":4}'::text"]
    {
        enqueue(&mut db, arguments).await.unwrap();
    }
    let bound = sqlx::query("SELECT postrider.enqueue($1, $2, priority => -1)");
    bound.bind("q").bind(sqlx::types::Json(json!({ "n": 5 }))).execute(&mut db).await.unwrap();
    let bound = sqlx::query("SELECT postrider.enqueue($1, $2, priority => -2)");
    bound.bind("q").bind(r#"{"n":6}"#).execute(&mut db).await.unwrap();
    let claimed = json(app.post("/queues/q/claim?max=10&wait=30s", &json!(null)).await, 200).await;
    let order: Vec<i64> =
        claimed.as_array().unwrap().iter().map(|message| message["request"]["n"].as_i64().unwrap()).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 6]);
    // An object is one message, also where numbers are more than a double holds.
    let id = enqueue(&mut db, r#"'q', '{"n": 12345678901234567890123}'::jsonb"#).await.unwrap();
    let read = app.get(&format!("/queues/q/messages/{id}")).await.text().await.unwrap();
    assert!(read.contains("12345678901234567890123"), "{read}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_enqueued_at_once_and_claimed_in_their_order() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "priority": 3 } })).await;
    let mut db = session(&app).await;
    let many = async |db: &mut PgConnection, arguments: &str| -> sqlx::Result<Vec<String>> {
        let call = format!("SELECT postrider.enqueue_many({arguments})::text[]");
        sqlx::query_scalar(AssertSqlSafe(call)).fetch_one(db).await
    };
    let some = "(SELECT array_agg(to_json(n)) FROM generate_series(1, 50) AS n)";
    let ids = many(&mut db, &format!("'q', {some}")).await.unwrap();
    let urgent = many(&mut db, "'q', ARRAY['\"a\"', '\"b\"']::jsonb[], priority => 5").await.unwrap();
    let texts = many(&mut db, "'q', ARRAY['\"c\"']").await.unwrap();
    let claimed = json(app.post("/queues/q/claim?max=100&wait=30s", &json!(null)).await, 200).await;
    let order: Vec<&str> =
        claimed.as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!(order, [urgent, ids, texts].concat());
    assert_eq!(claimed[2]["request"], 1);

    let late = many(&mut db, "'q', ARRAY['1', '2']::json[], delay => '1 hour'").await.unwrap();
    for id in &late {
        let full = app.whole_message("q", id).await;
        assert!(full["run_at"].is_string(), "{full}");
    }
    assert_eq!(many(&mut db, "'q', '{}'::json[]").await.unwrap(), [""; 0]);
    let before = count(&app, "q").await;
    for (arguments, expected) in [
        ("'q', ARRAY['1', NULL]::json[]", "22004"),
        ("'q', NULL::json[]", "22004"),
        ("'q', ARRAY['1', '{']", "22P02"),
        ("'nowhere', ARRAY['1']", "P0002"),
        ("'q', ARRAY['1'], priority => 101", "22023"),
        ("'q', ARRAY['1'], delay => '1s', run_at => now()", "22023"),
    ] {
        let refused = many(&mut db, arguments).await.map(|ids| ids.concat());
        assert_eq!(code(refused), expected, "{arguments}");
    }
    assert_eq!(count(&app, "q").await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_counts_from_the_call_and_not_from_the_start_of_the_transaction() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = session(&app).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SELECT pg_sleep(1.1)").execute(&mut *tx).await.unwrap();
    tx.execute("SELECT postrider.enqueue('q', '1', delay => '1s')").await.unwrap();
    tx.execute("SELECT postrider.enqueue_many('q', ARRAY['1'], delay => '1s')").await.unwrap();
    let waits: Vec<bool> =
        sqlx::query_scalar("SELECT run_at > now() + interval '2 s' FROM postrider.scheduled")
            .fetch_all(&mut *tx)
            .await
            .unwrap();
    assert_eq!(waits, [true, true]);
    tx.commit().await.unwrap();
    app.stop().await;
}

/// What is heard on the channel of the processes until `marker` is.
async fn heard(listener: &mut PgListener, marker: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let note = listener.recv().await.unwrap().payload().to_owned();
        if note == marker {
            return all;
        }
        all.push(note);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_commits_rings_for_its_lane_and_what_it_rolls_back_does_not() {
    let database = crate::support::app::database().await;
    let mut db = PgConnection::connect_with(&database).await.unwrap();
    db.execute("INSERT INTO lanes (kind) VALUES ('queue')").await.unwrap();
    db.execute("INSERT INTO queues (id, name, definition, version) SELECT max(id), 'q', '{}', 1 FROM lanes")
        .await
        .unwrap();
    let channel: String = sqlx::query_scalar("SELECT bell_channel()").fetch_one(&mut db).await.unwrap();
    let pool = sqlx::PgPool::connect_with(database).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(&channel).await.unwrap();
    let lanes = "SELECT (SELECT max(id) FROM queues), (SELECT id FROM lanes WHERE kind = 'router')";
    let (lane, router): (i32, i32) = sqlx::query_as(lanes).fetch_one(&mut db).await.unwrap();
    let (plain, urgent, published) = (format!("{lane}@0"), format!("{lane}@-7"), format!("{router}@0"));
    // No bell has rung, the last is long ago, and the next is far ahead of the clock, as after a step back.
    for last in ["1, false", "0", "4000000000000"] {
        for (call, rung) in [
            ("SELECT enqueue('q', '1'); SELECT enqueue('q', '2', priority => 7)", Some(&*plain)),
            ("SELECT enqueue('q', '1', priority => 7)", Some(&*urgent)),
            // It is in no lane yet: somebody has to learn when it is due.
            ("SELECT enqueue('q', '1', delay => '1 h')", Some("")),
            ("SELECT enqueue_many('q', ARRAY['1', '2'])", Some(&*plain)),
            ("SELECT enqueue_many('q', ARRAY['1', '2'], delay => '1 h')", Some("")),
            ("SELECT enqueue_many('q', '{}'::json[])", None),
            ("SELECT publish('s1', 'order:new', '{}'::jsonb)", Some(&*published)),
        ] {
            for (end, rung) in [("COMMIT", rung), ("ROLLBACK", None)] {
                let all = format!(
                    "SELECT setval('last_bell', {last}); BEGIN; {call}; {end}; SELECT pg_notify('{channel}', 'over')"
                );
                db.execute(AssertSqlSafe(all)).await.unwrap();
                assert_eq!(heard(&mut listener, "over").await, Vec::from_iter(rung), "{call}; {end}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_rings_for_all_that_are_under_way_unless_it_stays_open() {
    let database = crate::support::app::database().await;
    let mut first = PgConnection::connect_with(&database).await.unwrap();
    let mut second = PgConnection::connect_with(&database).await.unwrap();
    let channel: String = sqlx::query_scalar("SELECT bell_channel()").fetch_one(&mut first).await.unwrap();
    let pool = sqlx::PgPool::connect_with(database).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(&channel).await.unwrap();
    // As if the last bell had rung so many milliseconds ago: both are called in one statement.
    let rings = |ago: i32| {
        let last =
            format!("setval('last_bell', (extract(epoch FROM clock_timestamp()) * 1000)::bigint - {ago})");
        AssertSqlSafe(format!("SELECT {last}, ring()"))
    };
    let over = || AssertSqlSafe(format!("SELECT pg_notify('{channel}', 'over')"));
    for (ago, rung) in [(50, 0), (5_000, 1)] {
        first.execute("BEGIN").await.unwrap();
        first.execute(rings(50)).await.unwrap();
        second.execute(rings(ago)).await.unwrap();
        second.execute(over()).await.unwrap();
        assert_eq!(heard(&mut listener, "over").await.len(), rung, "{ago} ms after the last bell");
        first.execute("COMMIT").await.unwrap();
        second.execute(over()).await.unwrap();
        assert_eq!(heard(&mut listener, "over").await.len(), 1, "the first rings when it commits");
        second.execute(rings(50)).await.unwrap();
        second.execute(over()).await.unwrap();
        assert_eq!(heard(&mut listener, "over").await.len(), 1, "nobody is under way any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transactions_with_one_key_make_one_message() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let (mut first, mut second) = (session(&app).await, session(&app).await);
    first.execute("BEGIN").await.unwrap();
    let id = enqueue(&mut first, "'q', '1', idempotency_key => 'k'").await.unwrap();
    // The second waits for the first's end, whichever that is.
    let (again, ()) = tokio::join!(enqueue(&mut second, "'q', '1', idempotency_key => 'k'"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.execute("COMMIT").await.unwrap();
    });
    assert_eq!(again.unwrap(), id);
    assert_eq!(count(&app, "q").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_has_a_channel_of_its_own_that_postgresql_takes() {
    let database = crate::support::app::database().await;
    let mut db = PgConnection::connect_with(&database).await.unwrap();
    let mut channels = BTreeSet::new();
    let schemas = [
        "s".to_owned(),
        "a".repeat(53),
        "a".repeat(54),
        "a".repeat(62),
        "a".repeat(62) + "b",
        "ä".repeat(31),
    ];
    for schema in &schemas {
        let make = format!(r#"CREATE SCHEMA "{schema}"; SET search_path = "{schema}""#);
        db.execute(AssertSqlSafe(make)).await.unwrap();
        db.execute(include_str!("../../migrations/20261120000000_engine.up.sql")).await.unwrap();
        let channel: String = sqlx::query_scalar("SELECT bell_channel()").fetch_one(&mut db).await.unwrap();
        assert!(channel.len() <= 63, "{channel}");
        db.execute("SELECT ring()").await.unwrap();
        assert!(channels.insert(channel), "{schema}");
    }
    assert!(channels.contains("s_postrider"), "{channels:?}");
}

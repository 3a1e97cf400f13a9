//! `postrider.enqueue` in anybody's own transaction.

use crate::support::answer::json;
use crate::support::app::TestApp;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
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
async fn an_enqueued_message_is_held_against_the_schema_before_it_runs() {
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

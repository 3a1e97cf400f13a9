//! Transactions that see one moment (`REPEATABLE READ`, `SERIALIZABLE`): none is told of a message that has ended or was deleted
//! since; it is to be tried again.

use crate::support::answer::json;
use crate::support::app::TestApp;
use serde_json::{Value, json};
use sqlx::Executor as _;
use sqlx::postgres::{PgConnection, PgDatabaseError};

const LEVELS: [&str; 2] = ["REPEATABLE READ", "SERIALIZABLE"];

async fn define(app: &TestApp, holds: &str) {
    let unique = json!({ "key": "/a", "while": holds });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "unique": unique } })).await;
}

/// A transaction that sees this moment.
async fn begin(app: &TestApp, level: &str) -> PgConnection {
    let mut db = app.connect().await;
    let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM messages");
    db.execute(sqlx::AssertSqlSafe(begin)).await.unwrap();
    db
}

/// What `enqueue` gives in it.
async fn enqueue(db: &mut PgConnection, rest: &str) -> Result<String, (String, String)> {
    let call = format!(r#"SELECT enqueue('q', '{{"a": 1}}'{rest})::text"#);
    sqlx::query_scalar(sqlx::AssertSqlSafe(call)).fetch_one(db).await.map_err(|error| {
        let error = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
        (error.code().to_owned(), error.message().to_owned())
    })
}

async fn claim(app: &TestApp) -> Value {
    json(app.post("/queues/q/claim", &json!(null)).await, 200).await[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_to_be_tried_again_where_the_message_has_ended_or_was_deleted_since() {
    for (level, holds) in
        LEVELS.iter().flat_map(|level| ["waiting", "unfinished", "24h"].map(|holds| (level, holds)))
    {
        for how in ["ends", "is deleted"] {
            if (holds, how) == ("24h", "ends") {
                continue;
            }
            let app = TestApp::start().await;
            define(&app, holds).await;
            let first = app.push("q", &json!({ "a": 1 })).await;
            let mut db = begin(&app, level).await;
            if how == "ends" {
                let lease = claim(&app).await["lease"].clone();
                let path = format!("/queues/q/messages/{first}/complete");
                assert_eq!(app.post(&path, &json!({ "lease": lease })).await.status(), 204);
            } else {
                assert_eq!(app.delete(&format!("/queues/q/messages/{first}")).await.status(), 204);
            }
            let (code, words) = enqueue(&mut db, "").await.unwrap_err();
            assert_eq!(code, "40001", "{level}, {holds}, {how}: {words}");
            if (holds, how) == ("unfinished", "ends") {
                assert!(words.contains(&first) && words.contains("has ended"), "{words}");
            }
            db.execute("ROLLBACK").await.unwrap();
            let mut db = begin(&app, level).await;
            assert_ne!(enqueue(&mut db, "").await.unwrap(), first, "tried again, it is stored");
            db.execute("COMMIT").await.unwrap();
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_told_of_a_message_that_still_holds_the_value_and_does_not_keep_it_from_ending() {
    for level in LEVELS {
        let app = TestApp::start().await;
        define(&app, "unfinished").await;
        let first = app.push("q", &json!({ "a": 1 })).await;
        let lease = claim(&app).await["lease"].clone();
        let mut db = begin(&app, level).await;
        assert_eq!(enqueue(&mut db, "").await.unwrap(), first, "{level}");
        let path = format!("/queues/q/messages/{first}/complete");
        assert_eq!(app.post(&path, &json!({ "lease": lease })).await.status(), 204);
        db.execute("COMMIT").await.unwrap();
        assert_eq!(app.message("q", &first).await["status"], "COMPLETE");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_that_was_used_since_has_it_tried_again() {
    for level in LEVELS {
        let app = TestApp::start().await;
        define(&app, "unfinished").await;
        let mut db = begin(&app, level).await;
        let mut other = app.connect().await;
        let first = enqueue(&mut other, ", idempotency_key => 'k'").await.unwrap();
        let (code, _) = enqueue(&mut db, ", idempotency_key => 'k'").await.unwrap_err();
        assert_eq!(code, "40001", "{level}");
        db.execute("ROLLBACK").await.unwrap();
        let mut db = begin(&app, level).await;
        assert_eq!(enqueue(&mut db, ", idempotency_key => 'k'").await.unwrap(), first);
        app.stop().await;
    }
}

//! `postrider.publish` in anybody's own transaction.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::scripted::Scripted;
use serde_json::json;
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// A session as an application has it: with a search path of its own.
async fn session(app: &TestApp) -> PgConnection {
    let options = app.database.clone().options([("search_path", "pg_temp, public")]);
    PgConnection::connect_with(&options).await.unwrap()
}

/// Calls `postrider.publish` with these arguments; returns the id.
async fn publish(db: &mut PgConnection, arguments: &str) -> sqlx::Result<String> {
    let call = format!("SELECT postrider.publish({arguments})::text");
    sqlx::query_scalar(AssertSqlSafe(call)).fetch_one(db).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_message_is_there_when_its_transaction_commits_and_only_then() {
    let warehouse = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let mut db = session(&app).await;
    for end in ["ROLLBACK", "COMMIT"] {
        db.execute("BEGIN").await.unwrap();
        let id = publish(&mut db, r#"'s1', 'order:new', '{"order":  {"total": 1.0}}'"#).await.unwrap();
        assert_eq!(app.get(&format!("{STORE}/messages/{id}")).await.status(), 404, "not before the commit");
        db.execute(end).await.unwrap();
        if end == "ROLLBACK" {
            assert_eq!(app.get(&format!("{STORE}/messages/{id}")).await.status(), 404);
            let page = json(app.get(&format!("{STORE}/messages")).await, 200).await;
            assert_eq!(page["messages"], json!([]));
        } else {
            let message = app.delivered(&id, "COMPLETE").await;
            assert_eq!(message["state"], "routed");
            assert_eq!(message["hop"], 0);
        }
    }
    let asked = warehouse.asked();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].body.contains(r#""payload":{"order":{"total": 1.0},"parameters":[]}"#),
        "{}",
        asked[0].body
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_makes_the_store_and_what_nobody_wants_is_unrouted() {
    let app = TestApp::start().await;
    let mut db = session(&app).await;
    let id = publish(&mut db, "store => 'brand.new', message => 'a:b'").await.unwrap();
    app.server.run_until_idle().await.unwrap();
    let message = json(app.get(&format!("/stores/brand.new/messages/{id}")).await, 200).await;
    assert_eq!(message["state"], "unrouted");
    assert_eq!(message["payload"], json!({}));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_an_error_of_the_callers_statement() {
    let app = TestApp::start().await;
    let mut db = session(&app).await;
    let long = format!("a:{}", "b".repeat(254));
    let table = [
        ("'s1', 'orders/create', '{}'", "22023"),
        ("'s1', 'order.:new', '{}'", "22023"),
        ("'s1', 'order:', '{}'", "22023"),
        ("'s1', E'order:new\\n', '{}'", "22023"),
        (&format!("'s1', '{long}', '{{}}'"), "22023"),
        ("'s1', 'order:new', '[]'", "22023"),
        ("'s1', 'order:new', 'null'", "22023"),
        ("'s1', 'order:new', NULL", "22023"),
        ("'s1', NULL, '{}'", "23502"),
        ("'s1', 'order:new', '{'", "22P02"),
        ("'hub', 'order:new', '{}'", "23514"),
        ("'a b', 'order:new', '{}'", "23514"),
        ("NULL, 'order:new', '{}'", "23502"),
    ];
    for (arguments, expected) in table {
        let error = publish(&mut db, arguments).await.unwrap_err();
        let code = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>().code().to_owned();
        assert_eq!(code, expected, "{arguments}: {error}");
    }
    let mut own = app.connect().await;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM hub_messages").fetch_one(&mut own).await.unwrap();
    assert_eq!(count, 0);
    app.stop().await;
}

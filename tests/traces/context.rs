//! Without a collector a context is passed on as it came, and where there is none nothing is stored.

use super::{OUTSIDE, TRACE};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use axum::http::Method;
use postrider::client::{Client, Options};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

async fn handler() -> Scripted {
    Scripted::start(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned())).await
}

/// How many messages are stored with a context.
async fn stored(db: &mut PgConnection) -> i64 {
    let count = "SELECT (SELECT count(trace) FROM messages) + (SELECT count(trace) FROM hub_messages)
        + (SELECT count(trace) FROM jobs)";
    sqlx::query_scalar(count).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_context_nothing_is_stored_and_nothing_sent() {
    let handler = handler().await;
    let warehouse = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "http", "url": handler.url } })).await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let id = app.push("q", &json!({})).await;
    app.ended("q", &id).await;
    let told = app.tell("order:new", json!({})).await;
    app.delivered(&told, "COMPLETE").await;
    assert_eq!(stored(&mut app.connect().await).await, 0);
    for asked in handler.asked().iter().chain(&warehouse.asked()) {
        assert_eq!(asked.header("traceparent"), None);
    }
    assert_eq!(app.whole_message("q", &id).await["trace_id"], json!(null));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_comes_is_passed_on_as_it_is_whatever_carries_it() {
    let handler = handler().await;
    let warehouse = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "http", "url": handler.url } })).await;
    app.define("remote", json!({ "handler": { "kind": "worker" } })).await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    // One that is not to be exported stays so.
    let quiet = OUTSIDE.replace("-01", "-00");
    for context in [OUTSIDE, &quiet] {
        let id = app.push_with("q", &[("traceparent", context), ("tracestate", "shop=1,other=2")]).await;
        app.ended("q", &id).await;
        let asked = handler.asked().pop().unwrap();
        assert_eq!(asked.header("traceparent"), Some(context));
        assert_eq!(asked.header("tracestate"), Some("shop=1,other=2"));
        assert_eq!(app.whole_message("q", &id).await["trace_id"], TRACE);
    }
    for key in ["idempotency-key", "x-nothing"] {
        let push = app.request(Method::POST, "/queues/remote/messages:batch").header(key, "k");
        let push = push.header("traceparent", OUTSIDE).json(&json!([1]));
        assert!(push.send().await.unwrap().status().is_success());
        let claimed = app.post("/queues/remote/claim?wait=20s", &json!(null)).await;
        let claimed: serde_json::Value = claimed.json().await.unwrap();
        assert_eq!(claimed[0]["traceparent"], OUTSIDE);
        let told = app.request(Method::POST, "/stores/s1/messages").header(key, "k");
        let told = told.header("traceparent", OUTSIDE).json(&json!({ "message": "order:new" }));
        assert!(told.send().await.unwrap().status().is_success());
    }
    eventually("both are delivered", async || warehouse.asked().len() == 2).await;
    assert!(warehouse.asked().iter().all(|asked| asked.header("traceparent") == Some(OUTSIDE)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_breaks_the_specification_is_ignored_and_one_of_a_version_to_come_is_read() {
    let handler = handler().await;
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "http", "url": handler.url } })).await;
    let newer = OUTSIDE.replacen("00", "cc", 1) + "-what-is-more";
    for (sent, passed_on) in [
        (OUTSIDE.replacen("00", "ff", 1), None),
        (OUTSIDE.replace(TRACE, "00000000000000000000000000000000"), None),
        (OUTSIDE.replace("00f067aa0ba902b7", "0000000000000000"), None),
        (OUTSIDE[..54].to_owned(), None),
        (format!("{OUTSIDE}-more"), None),
        (OUTSIDE.to_uppercase(), None),
        ("what".to_owned(), None),
        (newer, Some(OUTSIDE)),
    ] {
        let id = app.push_with("q", &[("traceparent", &sent)]).await;
        app.ended("q", &id).await;
        assert_eq!(handler.asked().pop().unwrap().header("traceparent"), passed_on, "{sent}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_writes_has_the_context_that_its_transaction_has_set() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    app.define("one", json!({ "handler": { "kind": "worker" }, "options": { "unique": { "key": "body", "while": "waiting" } } }))
        .await;
    let mut db = app.connect().await;
    let set = "SELECT set_config('postrider.traceparent', $1, false), set_config('postrider.request_id', $2, false)";
    for (sent, request, count) in [
        (OUTSIDE.replacen("00", "ff", 1), "a b", 0),
        (OUTSIDE.replace(TRACE, "00000000000000000000000000000000"), "", 0),
        (String::new(), "", 0),
        (OUTSIDE.to_owned(), "order-7", 4),
    ] {
        sqlx::query(set).bind(&sent).bind(request).execute(&mut db).await.unwrap();
        for call in [
            "enqueue('q', '1')::text",
            "enqueue_many('q', ARRAY['2'])::text",
            "enqueue('one', '3')::text",
            "publish('s1', 'order:new', '{}')::text",
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT {call}"))).execute(&mut db).await.unwrap();
        }
        assert_eq!(stored(&mut db).await, count, "{sent}");
        sqlx::raw_sql(
            "DELETE FROM messages; DELETE FROM unique_holders; DELETE FROM hub_messages WHERE trace IS NULL",
        )
        .execute(&mut db)
        .await
        .unwrap();
    }
    let kept = "SELECT encode(trace, 'hex') || request_id FROM hub_messages WHERE trace IS NOT NULL";
    let kept: String = sqlx::query_scalar(kept).fetch_one(&mut db).await.unwrap();
    assert_eq!(kept, format!("{TRACE}00f067aa0ba902b701order-7"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_within_a_trace_leaves_the_settings_of_its_transaction_alone() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let (client, mut db) = (Client::default(), app.connect().await);
    let mut tx = db.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL postrider.request_id = 'mine'").execute(&mut *tx).await.unwrap();
    let within = client.within_trace(OUTSIDE);
    let one = within.enqueue(&mut tx, "q", &json!(1), &Options::default()).await.unwrap();
    let many = within.enqueue_many(&mut tx, "q", &[json!(2)], &Options::default()).await.unwrap();
    let told = within.publish(&mut tx, "s1", "order:new", &json!({})).await.unwrap();
    let other = client.enqueue(&mut tx, "q", &json!(3), &Options::default()).await.unwrap();
    tx.commit().await.unwrap();
    for (id, request, trace) in [
        (one, json!(null), json!(TRACE)),
        (many[0], json!(null), json!(TRACE)),
        (other, json!("mine"), json!(null)),
    ] {
        let whole = app.whole_message("q", &id.to_string()).await;
        assert_eq!((&whole["request_id"], &whole["trace_id"]), (&request, &trace));
    }
    assert_eq!(app.told(&told.to_string()).await["trace_id"], TRACE);
    app.stop().await;
}

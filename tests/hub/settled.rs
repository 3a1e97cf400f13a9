//! How the ends of attempts are written.

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use serde_json::json;
use sqlx::Executor as _;

async fn count(app: &TestApp, of: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
    sqlx::query_scalar(query).fetch_one(&mut app.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_ended_while_it_ran_is_not_ended_again() {
    let child = json!({ "messages": [{ "message": "child:new", "payload": {} }] });
    let endpoint = Scripted::start(move |asked| asked.acknowledge(child.clone()).held()).await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:new"], json!({})).await;
    let ended = app.tell("order:new", json!({})).await;
    let other = app.tell("order:new", json!({})).await;
    eventually("both are asked", async || endpoint.asked().len() == 2).await;
    let end = format!(
        "UPDATE deliveries SET status = 'ERROR', finished_at = now(), last_error = 'by hand', parked_by = 'final_answer' WHERE message_id = '{ended}'"
    );
    app.connect().await.execute(sqlx::AssertSqlSafe(end)).await.unwrap();
    endpoint.release();
    app.delivered(&other, "COMPLETE").await;
    eventually("nothing runs", async || count(&app, "leases").await == 0).await;
    let told = app.told(&ended).await;
    assert_eq!(told["deliveries"][0]["status"], "ERROR");
    assert_eq!(told["deliveries"][0]["last_error"], "by hand");
    assert_eq!(count(&app, "delivery_attempts").await, 1);
    assert_eq!(count(&app, &format!("hub_messages WHERE parent_id = '{other}'")).await, 1);
    assert_eq!(count(&app, "hub_messages WHERE parent_id IS NOT NULL").await, 1);
    app.stop().await;
}

/// What makes the end of a delivery cheap: its new row finds place beside the old one, and no index learns of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_index_of_deliveries_knows_what_their_end_changes() {
    let app = TestApp::start().await;
    let written = "attempts|status|business_error|next_attempt_at|finished_at|last_error|continue_url";
    let known = format!(
        "pg_index WHERE indrelid = 'deliveries'::regclass AND pg_get_indexdef(indexrelid) ~ '\\m({written})\\M'"
    );
    assert_eq!(count(&app, &known).await, 0);
    let partitions =
        "pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'deliveries'::regclass";
    assert!(count(&app, partitions).await > 1);
    let full = format!("{partitions} AND NOT coalesce(reloptions, '{{}}') @> ARRAY['fillfactor=45']");
    assert_eq!(count(&app, &full).await, 0);
    app.stop().await;
}

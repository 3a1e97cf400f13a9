//! Circuits over several processes: each learns what the others have written when it next claims a delivery.

use super::stage::STORE;
use super::upkeep::act;
use crate::engine::ask;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_opens_is_no_change_of_a_definition() {
    let endpoint = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    let breaker = json!({ "breaker": { "failures": 2, "cooldown": "1h" } });
    app.endpoint("broken", &endpoint.url, breaker).await;
    app.mapping("broken", "broken", &["order:new"], json!({})).await;
    let mut db = app.connect().await;
    let before: i64 = ask(&mut db, "SELECT revision FROM catalog").await;
    app.tell("order:new", json!({})).await;
    eventually("it opens", async || {
        let endpoints: Value = app.get(&format!("{STORE}/endpoints")).await.json().await.unwrap();
        endpoints[0]["services"][0]["open_until"].is_string()
    })
    .await;
    assert_eq!(ask::<i64>(&mut db, "SELECT revision FROM catalog").await, before);
    assert_eq!(endpoint.asked().len(), 2);
    // What is put again starts afresh, here too.
    app.endpoint("broken", &endpoint.url, json!({})).await;
    eventually("it is asked again", async || endpoint.asked().len() > 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_while_another_process_opened_the_circuit_is_not_sent_and_counts_no_attempt() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("shy", &endpoint.url, json!({ "breaker": { "failures": 5, "cooldown": "1h" } })).await;
    app.mapping("shy", "shy", &["order:new"], json!({})).await;
    let first = app.tell("order:new", json!({})).await;
    app.delivered(&first, "COMPLETE").await;
    let mut db = app.connect().await;
    // As another process does it.
    let opened =
        "UPDATE circuits SET failures = 5, open_until = now() + interval '1 hour', changes = changes + 1";
    act(&mut db, opened).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it goes back", async || ask::<i64>(&mut db, "SELECT count(*) FROM scheduled").await == 1)
        .await;
    let delivery = &app.told(&id).await["deliveries"][0];
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("PENDING"), &json!(0)), "{delivery}");
    assert_eq!(endpoint.asked().len(), 1);
    app.stop().await;
}

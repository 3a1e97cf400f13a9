//! What is measured of each store when somebody asks.

use crate::support::answer::text;
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_a_store_cannot_deliver() {
    let app = TestApp::start().await;
    let breaker = json!({ "breaker": { "failures": 1, "cooldown": "1h" } });
    app.endpoint("away", "http://127.0.0.1:1", breaker).await;
    app.mapping("ship", "away", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    app.tell("order:new", json!({})).await;
    let mut told = String::new();
    let has = |told: &str, line: &str| told.lines().any(|other| other == line);
    eventually("its delivery is parked", async || {
        told = text(app.get("/metrics").await, 200).await;
        has(&told, "postrider_deliveries_parked{store=\"s1\"} 1")
    })
    .await;
    let attempts = "postrider_delivery_attempts_total{";
    let counted = told.lines().find(|line| line.starts_with(attempts) && line.contains("endpoint=\"away\""));
    assert!(counted.is_some_and(|line| line.contains("cause=\"refused\"")), "{told}");
    assert!(has(&told, "postrider_open_circuits{store=\"s1\"} 1"), "{told}");
    assert!(has(&told, "postrider_deliveries_oldest_ready_seconds{store=\"s1\"} 0"), "{told}");
    // The circuit is open: what comes now waits.
    app.tell("order:new", json!({})).await;
    eventually("another waits", async || {
        told = text(app.get("/metrics").await, 200).await;
        has(&told, "postrider_deliveries_pending{store=\"s1\"} 1")
    })
    .await;
    app.stop().await;
}

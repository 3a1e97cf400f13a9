//! A delivery that was sent under one definition of its mapping goes on by that, whatever the mapping says by then.

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_goes_on_by_the_mapping_that_it_was_sent_by() {
    let endpoint = Scripted::start(|_| Reply::status(500).held()).await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    let options = |most: Option<u8>| {
        let retry = json!({ "base": "1h", "cap": "1h" });
        json!({ "options": { "retry": retry, "max_attempts": most } })
    };
    // With a limit of one it is parked; without a limit it is tried again.
    for (name, then, now, status) in [("once", Some(1), None, "ERROR"), ("again", None, Some(1), "PENDING")] {
        let key = format!("order:{name}");
        app.mapping(name, "warehouse", &[&key], options(then)).await;
        let before = endpoint.asked().len();
        let id = app.tell(&key, json!({})).await;
        eventually("it is asked", async || endpoint.asked().len() == before + 1).await;
        app.mapping(name, "warehouse", &[&key], options(now)).await;
        endpoint.release_once();
        let message = app.delivered(&id, status).await;
        eventually("the attempt is written", async || app.attempts(&message).await.len() == 1).await;
        assert_eq!(app.delivered(&id, status).await["deliveries"][0]["status"], status);
    }
    app.stop().await;
}

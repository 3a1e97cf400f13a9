//! What PostgreSQL logs of our work.

use super::remote::{call, claim, start};
use crate::support::server::server;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_ends_a_transaction_that_is_not_there() {
    let app = start(json!({})).await;
    for n in 0..20 {
        app.push("q", &json!({ "n": n })).await;
        let [message] = claim(&app, "").await.try_into().unwrap();
        assert_eq!(call(&app, &message, "complete", json!({ "result": n })).await.status(), 200);
        app.whole_message("q", message["id"].as_str().unwrap()).await;
        assert_eq!(app.get("/queues/q/messages").await.status(), 200);
        assert_eq!(app.get("/queues/q/messages/none").await.status(), 404);
        assert_eq!(app.get("/reports/queue_depth").await.status(), 200);
        assert_eq!(app.get("/readyz").await.status(), 200);
    }
    app.stop().await;
    let log = server().await.log();
    assert_eq!(log.matches("there is no transaction in progress").count(), 0, "{log}");
}

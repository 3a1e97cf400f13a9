//! What PostgreSQL logs of our work.

use super::remote::{call, claim, start};
use crate::support::server::server;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_we_do_is_a_warning_in_postgresqls_log() {
    let app = start(json!({})).await;
    for n in 0..20 {
        app.push("q", &json!({ "n": n })).await;
        let [message] = claim(&app, "").await.try_into().unwrap();
        assert_eq!(call(&app, &message, "complete", json!({ "result": n })).await.status(), 204);
        app.whole_message("q", message["id"].as_str().unwrap()).await;
        assert_eq!(app.get("/queues/q/messages").await.status(), 200);
        assert_eq!(app.get("/queues/q/messages/none").await.status(), 404);
        assert_eq!(app.get("/reports/queue_depth").await.status(), 200);
        assert_eq!(app.get("/readyz").await.status(), 200);
    }
    app.stop().await;
    let log = server().await.log();
    assert!(log.contains("ready to accept connections"), "it is the server's log: {log}");
    // Whoever kills a server makes warnings; ours would be of a transaction that is not there, or is there already.
    let ours = log.lines().filter(|line| line.contains("] postrider ") && line.contains(" WARNING: "));
    let ours: Vec<&str> = ours.filter(|line| line.contains("transaction")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

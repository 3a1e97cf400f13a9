//! The queues over HTTP, one file a capability.

mod batch;
mod bodies;
mod definitions;
mod deletes;
mod ends;
mod files;
mod held_keys;
mod idempotency;
mod javascript;
mod json_text;
mod listing;
mod messages;
mod metrics;
mod native;
mod order;
mod own_key;
mod pages;
mod parts;
mod remote;
mod remote_cost;
mod remote_limits;
mod retries;
mod roles;
mod schedule;
mod schedules;
mod schedules_put;
mod schedules_run;
mod schedules_told;
mod schema;
mod server_log;
mod sql;
mod terms;
mod tokens;
mod told;
mod unique;
mod unique_definitions;
mod unique_given_back;
mod unique_held;
mod unique_races;
mod unique_replace;
mod unique_snapshots;
mod unique_values;
mod unique_ways;
mod waiting;
mod webhook;
pub(crate) mod why;

use crate::support::app::TestApp;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_message_is_validated_handled_and_kept() {
    let app = TestApp::start().await;
    app.define_javascript(
        "myQueue",
        "module.exports = function(message) { return new Promise((resolve) => { console.log(message); return resolve({ result: 'value' }); }); };",
    )
    .await;
    let message = app.handled("myQueue", &json!({ "hello": "there", "world": "yes" })).await;
    assert_eq!(message["status"], "COMPLETE");
    assert_eq!(message["request"], json!({ "hello": "there", "world": "yes" }));
    assert_eq!(message["result"], json!({ "result": "value" }));
    assert_eq!(message["error"], json!(null));
    app.stop().await;
}

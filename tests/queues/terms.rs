//! An attempt that began under one definition ends by it, whatever the queue's definition is by then.

use crate::engine::Gate;
use crate::support::answer::{json, text};
use crate::support::app::TestApp;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::time::Duration;

/// Options that grant so many attempts, an hour apart.
fn options(max_attempts: u8) -> Value {
    json!({ "max_attempts": max_attempts, "timeout": "10m", "retry": { "base": "1h", "cap": "1h" } })
}

/// What becomes of a message whose attempt fails, when it began while there were more, and while there were none.
const CASES: [(u8, u8, &str); 2] = [(5, 1, "PENDING"), (1, 5, "ERROR")];

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_this_process_end_by_the_definition_that_they_ran_with() {
    for how in ["retries", "rejects", "panics"] {
        for (then, now, status) in CASES {
            let gate = Gate::shut();
            let held = gate.handler();
            let handler = move |message: Message| {
                let held = held(message);
                Box::pin(async move {
                    held.await?;
                    match how {
                        "retries" => Err(Failure::Retry(json!("no"), Some(Duration::from_hours(1)))),
                        "rejects" => Err(Failure::Reject(json!("no"))),
                        _ => panic!("no"),
                    }
                }) as futures::future::BoxFuture<'static, Result<Value, Failure>>
            };
            let app = TestApp::with(&[], |app| app.handler("work", handler)).await;
            let native = json!({ "kind": "native", "name": "work" });
            app.define("q", json!({ "handler": native, "options": options(then) })).await;
            let id = app.push("q", &json!(1)).await;
            gate.until_running(1).await;
            app.define("q", json!({ "handler": native, "options": options(now) })).await;
            gate.open_up();
            crate::support::eventually("the attempt ends", async || {
                app.whole_message("q", &id).await["history"].as_array().unwrap().len() == 1
            })
            .await;
            assert_eq!(app.message("q", &id).await["status"], status, "{how} {then} {now}");
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_remote_workers_end_by_the_definition_that_they_were_claimed_under() {
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    for (then, now, status) in CASES {
        let queue = format!("q{then}");
        let definition = |most| json!({ "handler": { "kind": "worker" }, "options": options(most) });
        app.define(&queue, definition(then)).await;
        let id = app.push(&queue, &json!(1)).await;
        let claimed = json(app.post(&format!("/queues/{queue}/claim"), &json!(null)).await, 200).await;
        other.define(&queue, definition(now)).await;
        // To another process, which never knew the former definition.
        let failed = json!({ "lease": claimed[0]["lease"], "error": "no", "retry": true });
        text(other.post(&format!("/queues/{queue}/messages/{id}/fail"), &failed).await, 204).await;
        assert_eq!(app.message(&queue, &id).await["status"], status, "{then} {now}");
    }
    other.stop().await;
    app.stop().await;
}

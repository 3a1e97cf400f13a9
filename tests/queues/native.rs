//! Handlers written in Rust: how each way to end is stored.

use crate::support::app::TestApp;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::time::Duration;

/// Ends as its message says.
async fn obedient(message: Message) -> Result<Value, Failure> {
    let (attempt, order) = (message.attempt, message.json::<Vec<Value>>()?);
    match order[0].as_str().unwrap() {
        "complete" => Ok(json!({ "id": message.id, "attempt": attempt })),
        "reject" => Err(Failure::Reject(order[1].clone())),
        "retry" if attempt < 3 => Err(Failure::Retry(json!(attempt), Some(Duration::from_millis(1)))),
        "retry" => Ok(json!("at last")),
        "give up" => Err(Failure::Retry(json!(attempt), None)),
        "hang" => std::future::pending().await,
        word => panic!("no such order: {word}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_handler_completes_rejects_retries_panics_or_takes_too_long() {
    let app = TestApp::with(&[], |app| app.handler("obedient", obedient)).await;
    let handler = json!({ "kind": "native", "name": "obedient" });
    let options = json!({ "timeout": "300ms", "retry": { "base": "1ms", "cap": "1ms" } });
    app.define("q", json!({ "handler": handler, "options": options })).await;
    let wrong = json!({ "name": "TypeError", "message": "invalid type: integer `5`, expected a sequence at line 1 column 1" });
    let late = json!({ "name": "TimeoutError", "message": "the handler did not settle within 300ms" });
    let panic = json!({ "name": "Panic", "message": "no such order: dance" });
    let table = [
        (json!(["reject", { "code": 1 }]), "ERROR", json!({ "code": 1 }), 1),
        (json!(["reject", null]), "ERROR", json!(null), 1),
        (json!(["retry"]), "COMPLETE", json!("at last"), 3),
        (json!(["give up"]), "ERROR", json!(3), 3),
        (json!(["hang"]), "ERROR", late, 1),
        (json!(["dance"]), "ERROR", panic, 1),
        (json!(5), "ERROR", wrong, 1),
    ];
    for (order, status, stored, attempts) in table {
        let id = app.push("q", &order).await;
        let message = app.ended("q", &id).await;
        let key = if status == "ERROR" { "error" } else { "result" };
        assert_eq!((&message["status"], &message[key]), (&json!(status), &stored), "{order}");
        assert_eq!(app.whole_message("q", &id).await["attempts"], attempts, "{order}");
    }
    let id = app.push("q", &json!(["complete"])).await;
    assert_eq!(app.ended("q", &id).await["result"], json!({ "id": id, "attempt": 1 }));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_process_that_has_its_handler() {
    let without = TestApp::start().await;
    without.define("q", json!({ "handler": { "kind": "native", "name": "obedient" } })).await;
    let id = without.push("q", &json!(["complete"])).await;
    without.server.run_until_idle().await.unwrap();
    assert_eq!(without.message("q", &id).await["status"], "PENDING");
    let with = TestApp::on(without.database.clone(), &[], |app| app.handler("obedient", obedient)).await;
    assert_eq!(without.ended("q", &id).await["status"], "COMPLETE");
    with.stop().await;
    without.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_handler_keeps_its_messages_until_it_has_one() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let id = app.push("q", &json!("waits")).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(app.message("q", &id).await["status"], "PENDING");
    app.define_javascript("q", "module.exports = m => m").await;
    assert_eq!(app.ended("q", &id).await["result"], "waits");
    app.stop().await;
}

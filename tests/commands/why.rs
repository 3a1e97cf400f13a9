//! `postrider why` says of any id what the API says.

use super::run;
use crate::queues::why::causes;
use crate::support::answer::json;
use crate::support::app::TestApp;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn why_finds_what_an_id_is_and_says_what_the_api_says() {
    let app = TestApp::start().await;
    app.define("mail", json!({ "handler": { "kind": "native", "name": "send" } })).await;
    let message = app.push("mail", &json!(1)).await;
    app.endpoint("e", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("one", "e", &["order:*"], json!({})).await;
    app.mapping("two", "e", &["order:*"], json!({})).await;
    let told = app.tell("order:new", json!({})).await;
    let of_told = app.told(&told).await;
    let delivery = of_told["deliveries"][0]["id"].as_str().unwrap();
    let jobs = "/place_card_on_single_site_jobs";
    let job = json(app.post(jobs, &json!({ "cardholder_id": 7 })).await, 201).await["id"].to_string();
    for (id, path) in [
        (&*message, format!("/queues/mail/messages/{message}/why")),
        (delivery, format!("/stores/s1/deliveries/{delivery}/why")),
        (&*job, format!("{jobs}/{job}/why")),
    ] {
        let done = run(&app.database, &["why", id, "--format", "json"]).await;
        assert!(done.ok, "{done:?}");
        let mut said: Vec<Value> = serde_json::from_str(&done.out).unwrap();
        let mut wanted = json(app.get(&path).await, 200).await;
        // Each has a moment of its own.
        wanted["at"] = json!(null);
        said[0]["at"] = json!(null);
        assert_eq!(said, [wanted], "{id}");
    }
    let both = run(&app.database, &["why", &told, "--format", "json"]).await;
    let both: Vec<Value> = serde_json::from_str(&both.out).unwrap();
    let both: Vec<Vec<&str>> = both.iter().map(causes).collect();
    assert_eq!(both, [vec!["endpoint_disabled"], vec!["endpoint_disabled", "earlier"]]);

    let text = run(&app.database, &["why", &message]).await.out;
    assert_eq!(text.lines().next().unwrap(), format!("message  /queues/mail/messages/{message}  PENDING"));
    for line in [
        "FAULT no_runner: No process lives that has the native handler send.",
        "      start the program that registers it, or correct the queue's handler",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let none = run(&app.database, &["why", "no-such-thing"]).await;
    assert!(!none.ok && none.err.contains("no message, delivery or job no-such-thing"), "{none:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_works_at_all_why_says_that() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => m").await;
    json(app.post("/queues/q/pause", &json!({})).await, 200).await;
    let id = app.push("q", &json!(1)).await;
    let database = app.database.clone();
    app.stop().await;
    let text = run(&database, &["why", &id]).await.out;
    let faults: Vec<&str> = text.lines().filter(|line| line.starts_with("FAULT")).collect();
    assert_eq!(faults.len(), 2, "{text}");
    assert!(
        faults[0].contains("queue_paused: The queue q is paused since") && faults[0].contains("by tester")
    );
    assert_eq!(faults[1], "FAULT no_process: No process lives that runs anything.");
}

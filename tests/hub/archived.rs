//! Deliveries that nobody wants any more are put away wherever they wait, and make way.

use super::stage::STORE;
use crate::engine::ask;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

fn path(message: &Value, action: &str) -> String {
    format!("{STORE}/deliveries/{}/{action}", message["deliveries"][0]["id"].as_str().unwrap())
}

/// A serial mapping whose endpoint does this about the first message, and takes the others.
async fn line(first: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (TestApp, Scripted, [String; 3]) {
    let endpoint = Scripted::start(move |asked: &Asked| {
        if asked.json()["payload"]["n"] == 1 { first(asked) } else { asked.acknowledge(json!({})) }
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    let options = json!({ "serial": true, "retry": { "base": "1h", "cap": "1h" } });
    app.mapping("m", "e", &["order:*"], json!({ "options": options })).await;
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.push(app.tell("order:new", json!({ "n": n })).await);
    }
    (app, endpoint, ids.try_into().unwrap())
}

async fn makes_way(first: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
    let (app, _endpoint, [head, second, third]) = line(first).await;
    eventually("the head waits to be tried again", async || {
        app.told(&head).await["deliveries"][0]["next_attempt_at"].is_string()
    })
    .await;
    // One that waits in the middle of the line goes too.
    let archived = json(app.post(&path(&app.told(&second).await, "archive"), &json!({})).await, 200).await;
    assert_eq!(archived["status"], "ERROR", "{archived}");
    assert!(archived["archived_at"].is_string() && archived["last_error"].is_string(), "{archived}");
    assert_eq!(app.told(&third).await["deliveries"][0]["attempts"], 0);
    let archived = json(app.post(&path(&app.told(&head).await, "archive"), &json!({})).await, 200).await;
    assert_eq!((&archived["status"], &archived["next_attempt_at"]), (&json!("ERROR"), &Value::Null));
    app.delivered(&third, "COMPLETE").await;
    let mut db = app.connect().await;
    let left = "SELECT (SELECT count(*) FROM lines) + (SELECT count(*) FROM line_waits) + (SELECT count(*) FROM scheduled)";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    assert_eq!(app.told(&second).await["deliveries"][0]["attempts"], 0, "nobody wants it");
    // Who thinks better of it has it run again.
    json(app.post(&path(&app.told(&second).await, "retry"), &json!({})).await, 200).await;
    app.delivered(&second, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_fails_for_ever_makes_way_when_it_is_archived() {
    makes_way(|_| Reply::status(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_put_off_for_ever_makes_way_when_it_is_archived() {
    makes_way(|asked| asked.acknowledge(json!({ "delay": 3600 }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_not_archived_and_what_is_held_is() {
    let (app, endpoint, [head, ..]) = line(|asked| asked.acknowledge(json!({})).held()).await;
    eventually("it runs", async || endpoint.asked().len() == 1).await;
    refusal(app.post(&path(&app.told(&head).await, "archive"), &json!({})).await, 409).await;
    endpoint.release();
    app.delivered(&head, "COMPLETE").await;
    app.mapping("m", "e", &["order:*"], json!({ "enabled": false })).await;
    let id = app.tell("order:new", json!({ "n": 4 })).await;
    let archived = json(app.post(&path(&app.told(&id).await, "archive"), &json!({})).await, 200).await;
    assert_eq!(archived["status"], "ERROR");
    app.mapping("m", "e", &["order:*"], json!({})).await;
    app.server.run_until_idle().await.unwrap();
    assert!(endpoint.asked().iter().all(|asked| asked.json()["payload"]["n"] != 4));
    app.stop().await;
}

//! What `why` tells of a delivery that its own tables do not: keys, and what switched its endpoint off.

use super::customers::{put, state};
use super::stage::{STORE, eager};
use crate::queues::why::{causes, reason};
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

async fn why(app: &TestApp, delivery: &str) -> Value {
    json(app.get(&format!("{STORE}/deliveries/{delivery}/why")).await, 200).await
}

/// Pushes a message; returns its delivery.
async fn delivery(app: &TestApp) -> String {
    let id = app.tell("a.b", json!({})).await;
    app.told(&id).await["deliveries"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_secrets_no_living_process_can_open_says_so() {
    let endpoint = Scripted::agreeable().await;
    for (token, parameters) in
        [(json!("token-of-the-endpoint"), json!([])), (Value::Null, json!(["api_key"]))]
    {
        let app = TestApp::start().await;
        app.endpoint("e", &endpoint.url, json!({ "token": token })).await;
        app.parameter("api_key", json!("a password"), "password").await;
        app.mapping("m", "e", &["a.*"], json!({ "parameters": parameters })).await;
        let database = app.database.clone();
        app.stop().await;
        let keyless = TestApp::on(database.clone(), &[("POSTRIDER_SECRET_KEY", "")], |app| app).await;
        let id = delivery(&keyless).await;
        let mut said = Value::Null;
        eventually("it is said", async || {
            said = why(&keyless, &id).await;
            causes(&said).first() == Some(&"no_key")
        })
        .await;
        let missing = reason(&said, "no_key");
        assert!(missing["do"].as_str().unwrap().contains("POSTRIDER_SECRET_KEY"), "{missing}");
        assert_eq!(missing["fault"], true);
        let keyed = TestApp::on(database, &[], |app| app).await;
        eventually("it is sent", async || why(&keyed, &id).await["status"] == "COMPLETE").await;
        keyed.stop().await;
        keyless.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_its_failures_switched_off_says_after_which() {
    let endpoint = Scripted::start(|_: &Asked| Reply::Says(500, Vec::new(), "no".to_owned())).await;
    let app = TestApp::start().await;
    let members = json!({ "disable": { "failures": 2 }, "events": ["a.*"], "options": eager() });
    app.endpoint("e", &endpoint.url, members).await;
    let id = delivery(&app).await;
    eventually("it is switched off", async || state(&app, "e").await["enabled"] == false).await;
    // An attempt that was under way has ended.
    eventually("nobody has it in hand", async || {
        causes(&why(&app, &id).await).contains(&"endpoint_disabled")
    })
    .await;
    let shown = state(&app, "e").await;
    let said = why(&app, &id).await;
    let off = reason(&said, "endpoint_disabled");
    assert_eq!(off["since"], shown["state"]["disabled_at"], "{off}");
    assert!(off["error"].as_str().unwrap().starts_with("status: "), "{off}");
    assert!(off["count"].as_i64().unwrap() >= 2, "{off}");
    let detail = off["detail"].as_str().unwrap();
    assert!(detail.contains("its attempts had failed") && detail.contains("500"), "{detail}");
    // Switched off by hand, it says nothing of failures.
    let patient = json!({ "retry": { "base": "1h", "cap": "1h" } });
    for enabled in [true, false] {
        let definition =
            json!({ "url": endpoint.url, "enabled": enabled, "events": ["a.*"], "options": patient });
        json(app.put(&put("endpoints/e"), &definition).await, 200).await;
    }
    eventually("nobody has it in hand", async || {
        causes(&why(&app, &id).await).contains(&"endpoint_disabled")
    })
    .await;
    let said = why(&app, &id).await;
    let off = reason(&said, "endpoint_disabled");
    assert!(off.get("error").is_none() && off["detail"].as_str().unwrap().contains("last put"), "{off}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn which_rule_parked_a_delivery_is_kept_and_not_read_from_its_error() {
    let bad = "x (older than max_age)";
    let endpoint = Scripted::start(move |asked: &Asked| {
        Reply::Says(500, Vec::new(), json!({ "message_id": asked.id(), "error": bad }).to_string())
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    let options = json!({ "max_attempts": 1 });
    app.mapping("m", "e", &["a.*"], json!({ "options": options })).await;
    let message = app.tell("a.b", json!({})).await;
    let delivery = app.delivered(&message, "ERROR").await["deliveries"][0].clone();
    assert_eq!(delivery["parked_by"], "max_attempts", "{delivery}");
    let id = delivery["id"].as_str().unwrap();
    let mut db = app.connect().await;
    sqlx::query("UPDATE deliveries SET last_error = $1").bind(bad).execute(&mut db).await.unwrap();
    assert_eq!(reason(&why(&app, id).await, "parked")["rule"], "max_attempts");
    let listed = json(app.get(&format!("{STORE}/deliveries?status=ERROR")).await, 200).await;
    assert_eq!(listed["deliveries"][0]["parked_by"], "max_attempts");
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    json(app.post(&format!("{STORE}/deliveries/{id}/retry"), &json!({})).await, 200).await;
    let done = app.delivered(&message, "COMPLETE").await;
    assert_eq!(done["deliveries"][0]["parked_by"], Value::Null);
    app.stop().await;
}

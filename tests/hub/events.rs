//! What an endpoint's own mapping still has to deliver when its definition makes it no longer.

use super::customers::put;
use super::stage::eager;
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::{Value, json};

/// An endpoint that is switched off, with an event that waits for it; its definition, and the id of the message.
async fn waiting(app: &TestApp, options: Value) -> (Value, String) {
    let definition =
        json!({ "url": "http://127.0.0.1:9", "events": ["a.*"], "options": options, "enabled": false });
    json(app.put(&put("endpoints/e"), &definition).await, 201).await;
    let id = app.tell("a.b", json!({})).await;
    (definition, id)
}

fn without_events(definition: &Value) -> Value {
    let mut bare = definition.clone();
    bare.as_object_mut().unwrap().retain(|name, _| name != "events" && name != "options");
    bare
}

async fn delivery(app: &TestApp, id: &str) -> Value {
    app.told(id).await["deliveries"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_do_not_go_while_deliveries_of_them_wait_unless_those_are_to_be_parked() {
    let app = TestApp::start().await;
    for options in [json!({}), json!({ "serial": true })] {
        let (definition, id) = waiting(&app, options).await;
        let behind = app.tell("a.b", json!({})).await;
        let bare = without_events(&definition);
        for refused in [
            app.put(&put("endpoints/e"), &bare).await,
            app.put(&put("endpoints/e?waiting=keep"), &bare).await,
            app.delete(&put("endpoints/e")).await,
        ] {
            let problem = refusal(refused, 409).await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("waiting=park") && detail.contains("events"), "{detail}");
        }
        let kept = json(app.get(&put("endpoints/e")).await, 200).await;
        assert_eq!(kept["events"], json!(["a.*"]));
        // Fewer events are the same mapping: what waits goes on.
        let mut fewer = definition.clone();
        fewer["events"] = json!(["b.*"]);
        json(app.put(&put("endpoints/e"), &fewer).await, 200).await;
        assert_eq!(delivery(&app, &id).await["status"], "PENDING");
        refusal(app.put(&put("endpoints/e?waiting=drop"), &bare).await, 400).await;

        json(app.put(&put("endpoints/e?waiting=park"), &bare).await, 200).await;
        for id in [&id, &behind] {
            let parked = delivery(&app, id).await;
            assert_eq!(
                (&parked["status"], &parked["last_error"]),
                (&json!("ERROR"), &json!("the mapping was deleted"))
            );
        }
        // Nothing waits for them any more.
        assert_eq!(app.delete(&put("endpoints/e")).await.status(), 204);
    }
    waiting(&app, json!({})).await;
    assert_eq!(app.delete(&put("endpoints/e?waiting=park")).await.status(), 204);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_runs_is_not_left_without_its_events_either() {
    let customer = Scripted::start(|_| Reply::status(500).held()).await;
    let app = TestApp::start().await;
    let definition = json!({ "url": customer.url, "events": ["a.*"], "options": eager() });
    json(app.put(&put("endpoints/e"), &definition).await, 201).await;
    let id = app.tell("a.b", json!({})).await;
    eventually("it is asked", async || customer.asked().len() == 1).await;
    let bare = without_events(&definition);
    refusal(app.put(&put("endpoints/e"), &bare).await, 409).await;
    customer.follow(|asked| asked.acknowledge(json!({})));
    customer.release();
    app.delivered(&id, "COMPLETE").await;
    json(app.put(&put("endpoints/e"), &bare).await, 200).await;
    app.stop().await;
}

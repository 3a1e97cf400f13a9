//! What people decide about deliveries: run again, archive, recover.

use super::stage::STORE;
use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

/// A store whose endpoint fails, and whose mapping parks at the first failure; and the messages that it failed on.
async fn parked(endpoint: &Scripted, count: usize) -> (TestApp, Vec<String>) {
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    let mut ids = Vec::new();
    for n in 0..count {
        let id = app.tell("order:new", json!({ "n": n })).await;
        app.delivered(&id, "ERROR").await;
        ids.push(id);
    }
    (app, ids)
}

fn delivery(message: &Value) -> &str {
    message["deliveries"][0]["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_delivery_is_run_again_or_archived_and_no_other() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let (app, ids) = parked(&endpoint, 1).await;
    let id = delivery(&app.told(&ids[0]).await).to_owned();
    let path = |action: &str| format!("{STORE}/deliveries/{id}/{action}");
    let archived = json(app.post(&path("archive"), &json!({})).await, 200).await;
    assert!(archived["archived_at"].is_string() && archived["status"] == "ERROR");
    assert_eq!(json(app.post(&path("archive"), &json!({})).await, 200).await, archived);
    let parked = json(app.post(&format!("{STORE}/deliveries/retry"), &json!({})).await, 200).await;
    assert_eq!(parked, json!({ "retried": 0, "more": false }));

    endpoint.follow(|asked: &Asked| asked.acknowledge(json!({})).held());
    let again = json(app.post(&path("retry"), &json!({})).await, 200).await;
    assert!(["PENDING", "INPROGRESS"].contains(&again["status"].as_str().unwrap()), "{again}");
    assert_eq!(again["archived_at"], json!(null));
    eventually("it is asked", async || endpoint.asked().len() == 2).await;
    for action in ["retry", "archive"] {
        refusal(app.post(&path(action), &json!({})).await, 409).await;
    }
    endpoint.release();
    app.delivered(&ids[0], "COMPLETE").await;
    for action in ["retry", "archive"] {
        refusal(app.post(&path(action), &json!({})).await, 409).await;
    }
    let read = json(app.get(&format!("{STORE}/deliveries/{id}")).await, 200).await;
    assert_eq!(
        (&read["message"], &read["mapping"], &read["endpoint"]),
        (&json!("order:new"), &json!("ship"), &json!("warehouse"))
    );
    let attempts = json(app.get(&path("attempts")).await, 200).await;
    let verdicts: Vec<&str> =
        attempts.as_array().unwrap().iter().map(|attempt| attempt["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["failed", "delivered"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_waits_for_its_next_attempt_is_tried_at_once() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::Says(503, vec![("Retry-After", "3600".to_owned())], String::new()),
        1 => asked.acknowledge(json!({ "delay": 3600, "update_url": "/later" })),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    let path = format!("{STORE}/deliveries/{}/retry", delivery(&app.told(&id).await));
    for attempts in 1..=2 {
        let mut waits = Value::Null;
        eventually("it waits for an hour", async || {
            waits = app.told(&id).await["deliveries"][0].take();
            waits["status"] == "PENDING" && waits["attempts"] == attempts
        })
        .await;
        assert!(waits["next_attempt_at"].is_string(), "{waits}");
        json(app.post(&path, &json!({})).await, 200).await;
    }
    let message = app.delivered(&id, "COMPLETE").await;
    assert_eq!(message["deliveries"][0]["attempts"], 3);
    // The one that works on it already was asked on.
    let paths: Vec<String> = endpoint.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, ["/take", "/take", "/later"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_run_again_by_what_they_are() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let (app, ids) = parked(&endpoint, 5).await;
    let retry =
        async |body: Value| json(app.post(&format!("{STORE}/deliveries/retry"), &body).await, 200).await;
    for body in [
        json!({ "mapping": "none" }),
        json!({ "endpoint": "none" }),
        json!({ "since": "2100-01-01T00:00:00Z" }),
        json!({ "status": "COMPLETE" }),
    ] {
        assert_eq!(retry(body.clone()).await, json!({ "retried": 0, "more": false }), "{body}");
    }
    for (body, place) in [
        (json!({ "limit": 0 }), ("/limit", "range")),
        (json!({ "status": "PENDING" }), ("/status", "enum")),
        (json!({ "store": "s1" }), ("/store", "additionalProperties")),
    ] {
        let problem = refusal(app.post(&format!("{STORE}/deliveries/retry"), &body).await, 422).await;
        assert_eq!(violations(&problem), [place]);
    }
    endpoint.follow(|asked: &Asked| asked.acknowledge(json!({})));
    assert_eq!(retry(json!({ "mapping": "ship", "limit": 2 })).await, json!({ "retried": 2, "more": true }));
    for id in &ids[..2] {
        app.delivered(id, "COMPLETE").await;
    }
    assert_eq!(
        retry(json!({ "endpoint": "warehouse", "since": "2020-01-01T00:00:00Z" })).await["retried"],
        3
    );
    for id in &ids {
        app.delivered(id, "COMPLETE").await;
    }
    // What was delivered is sent again only when somebody says so.
    let before = endpoint.asked().len();
    assert_eq!(retry(json!({})).await["retried"], 0);
    assert_eq!(retry(json!({ "status": "COMPLETE" })).await["retried"], 5);
    eventually("all are sent again", async || endpoint.asked().len() == before + 5).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_everything_since_a_moment_again() {
    let endpoint = Scripted::start(|asked: &Asked| {
        if asked.json()["payload"]["n"] == 0 { Reply::status(500) } else { asked.acknowledge(json!({})) }
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    app.mapping("other", "off", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    for n in 0..3 {
        let id = app.tell("order:new", json!({ "n": n })).await;
        eventually("it has ended", async || {
            let message = app.told(&id).await;
            let ship =
                message["deliveries"].as_array().unwrap().iter().find(|d| d["mapping"] == "ship").unwrap();
            ["COMPLETE", "ERROR"].contains(&ship["status"].as_str().unwrap())
        })
        .await;
    }
    let recover = async |body: Value| app.post(&format!("{STORE}/endpoints/warehouse/recover"), &body).await;
    assert_eq!(endpoint.asked().len(), 3);
    let old = json!({ "since": "2020-01-01T00:00:00Z" });
    assert_eq!(json(recover(old).await, 200).await, json!({ "retried": 1, "more": false }));
    eventually("the parked one was sent again", async || endpoint.asked().len() == 4).await;
    app.server.run_until_idle().await.unwrap();
    let all = json!({ "since": "2020-01-01T00:00:00Z", "all": true });
    assert_eq!(json(recover(all).await, 200).await["retried"], 3);
    eventually("all were sent again", async || endpoint.asked().len() == 7).await;
    let future = json!({ "since": "2100-01-01T00:00:00Z", "all": true });
    assert_eq!(json(recover(future).await, 200).await["retried"], 0);
    refusal(recover(json!({ "all": true })).await, 422).await;
    let none = json!({ "since": "2020-01-01T00:00:00Z" });
    refusal(app.post(&format!("{STORE}/endpoints/none/recover"), &none).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_says_its_notifications_again_and_makes_no_second_messages() {
    let say = |words: &str| {
        let said = json!([{ "level": "critical", "subject": words, "description": "x", "reference_id": 7 }]);
        json!({ "notifications": said, "messages": [{ "message": "notification:info", "payload": { "subject": words } }] })
    };
    let first = say("first");
    let endpoint = Scripted::start(move |asked: &Asked| match asked.before {
        // A failure says it to people; only what takes the message makes messages of it.
        0 => Reply::Says(500, Vec::new(), first.to_string()),
        _ => asked.acknowledge(first.clone()),
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    let children = |message: &Value| message["children"].as_array().unwrap().clone();
    let made = children(&app.delivered(&id, "COMPLETE").await);
    assert_eq!(made.len(), 2);
    let recover = async |attempts: i64| {
        let all = json!({ "since": "2020-01-01T00:00:00Z", "all": true });
        let answer = app.post(&format!("{STORE}/endpoints/warehouse/recover"), &all).await;
        assert_eq!(json(answer, 200).await["retried"], 1);
        let mut message = Value::Null;
        eventually("it was delivered again", async || {
            message = app.told(&id).await;
            let delivery = &message["deliveries"][0];
            delivery["status"] == "COMPLETE" && delivery["attempts"] == attempts
        })
        .await;
        message
    };
    for attempts in 3..=4 {
        assert_eq!(children(&recover(attempts).await), made, "no second messages");
    }
    let mut log = app.log().await;
    log.sort();
    let entry = |level: &str, description: &str, times| {
        (level.to_owned(), "first".to_owned(), description.to_owned(), times)
    };
    assert_eq!(log, [entry("error", "x", 4), entry("info", "", 3)]);

    // Something else is something new, and makes its messages.
    let second = say("second");
    endpoint.follow(move |asked: &Asked| asked.acknowledge(second.clone()));
    let message = recover(5).await;
    assert_eq!(children(&message).len(), 4);
    assert_eq!(children(&recover(6).await), children(&message));
    app.stop().await;
}

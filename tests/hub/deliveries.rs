//! Deliveries: what is sent, what each answer comes to, and what takes effect with it.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

/// A store with one endpoint and one mapping of `order:*` to it.
async fn store(endpoint: &Scripted) -> TestApp {
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    app
}

fn of(children: &[Value]) -> Vec<(String, Value)> {
    children
        .iter()
        .map(|child| (child["message"].as_str().unwrap().to_owned(), child["payload"].clone()))
        .collect()
}

/// The children of a message, in the order in which they came.
async fn children(app: &TestApp, message: &Value) -> Vec<Value> {
    let mut children = Vec::new();
    for child in message["children"].as_array().unwrap() {
        let id = child.as_str().or_else(|| child["message_id"].as_str()).unwrap();
        children.push(app.told(id).await);
    }
    children
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_carries_the_same_id_and_the_same_bytes() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::status(503),
        1 => Reply::Resets,
        2 => Reply::Says(200, Vec::new(), "<html>".to_owned()),
        3 => Reply::Says(200, Vec::new(), "{}".to_owned()),
        4 => Reply::status(201),
        5 => asked.acknowledge(json!({ "messages": 7 })),
        _ => Reply::status(500),
    })
    .await;
    let app = store(&endpoint).await;
    app.parameter("api_key", json!("1234567890"), "password").await;
    app.mapping("ship", "warehouse", &["order:*"], json!({ "parameters": ["api_key"] })).await;
    let payload = r#"{ "order" : {"total": 1.0, "name":"\u00e9"},"x":[ ] }"#;
    let body = format!(r#"{{"message":"order:new","payload":{payload}}}"#);
    let request = app.request(reqwest::Method::POST, &format!("{STORE}/messages"));
    let stored = request.header("content-type", "application/json").body(body).send().await.unwrap();
    let id = json(stored, 201).await["message_id"].as_str().unwrap().to_owned();
    let message = app.delivered(&id, "COMPLETE").await;
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 6);
    let expected = format!(
        r#"{{"message":"order:new","message_id":"{id}","store_id":"s1","payload":{{"order":{{"total": 1.0, "name":"\u00e9"}},"x":[ ],"parameters":[{{"name":"api_key","value":"1234567890"}}]}}}}"#
    );
    let delivery = message["deliveries"][0]["id"].as_str().unwrap();
    for request in &asked {
        assert_eq!(request.body, expected);
        assert_eq!(request.path, "/take");
        for (name, value) in
            [("webhook-id", delivery), ("x-hub-store", "s1"), ("content-type", "application/json")]
        {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
        assert!(request.headers.iter().all(|(name, _)| !name.contains('_')));
        assert_eq!((request.header("x-hub-token"), request.header("webhook-signature")), (None, None));
    }
    assert_eq!(message["deliveries"][0]["attempts"], 6);
    let attempts = app.attempts(&message).await;
    let seen: Vec<(i64, &str, Option<i64>)> = attempts
        .iter()
        .map(|a| (a["number"].as_i64().unwrap(), a["verdict"].as_str().unwrap(), a["status_code"].as_i64()))
        .collect();
    let failed = [(1, Some(503)), (2, None), (3, Some(200)), (4, Some(200)), (5, Some(201))];
    let expected: Vec<_> = failed.into_iter().map(|(number, status)| (number, "failed", status)).collect();
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5], (6, "delivered", Some(200)));
    assert!(attempts[..5].iter().all(|attempt| attempt["error"].is_string()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_bears_the_token_and_a_signature_of_each_secret() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2Vjb25kIHNlY3JldCBvZiB0aGUgdGVzdHM="];
    let members = json!({ "token": "x123", "signing_secrets": secrets });
    app.endpoint("warehouse", &format!("{}/v1/?key=1", endpoint.url), members).await;
    app.mapping("ship", "warehouse", &["order:new"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    let delivery = message["deliveries"][0]["id"].as_str().unwrap();
    let asked = endpoint.asked();
    assert_eq!(asked[0].path, "/v1/take?key=1");
    let header = |name: &str| asked[0].header(name).unwrap();
    assert_eq!((header("x-hub-token"), header("x-augury-token")), ("x123", "x123"));
    assert_eq!(header("x-hub-timestamp"), header("webhook-timestamp"));
    let signatures: Vec<&str> = header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    for (signature, secret) in signatures.iter().zip(secrets) {
        let key = STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let signed = format!("{delivery}.{}.{}", header("webhook-timestamp"), asked[0].body);
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_all_four_shapes_bring_messages() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let id = asked.id();
        let body = match asked.json()["payload"]["shape"].as_i64().unwrap() {
            1 => json!({ "message_id": id }),
            2 => json!({ "message_id": id, "messages": [{ "message": "payment:capture", "payload": { "n": 2 } }, { "message": "a:b" }] }),
            3 => json!({ "message_id": id, "message": "product:in_stock", "payload": { "n": 3 } }),
            _ => json!([{ "message_id": id, "message": "c:d", "payload": { "n": 4 } }, { "message_id": id, "message": "c:e" }]),
        };
        Reply::Says(200, Vec::new(), body.to_string())
    })
    .await;
    let app = store(&endpoint).await;
    let expected = [
        vec![],
        vec![("payment:capture", json!({ "n": 2 })), ("a:b", json!({}))],
        vec![("product:in_stock", json!({ "n": 3 }))],
        vec![("c:d", json!({ "n": 4 })), ("c:e", json!({}))],
    ];
    for (shape, expected) in (1..).zip(expected) {
        let id = app.tell("order:new", json!({ "shape": shape })).await;
        let message = app.delivered(&id, "COMPLETE").await;
        let children = children(&app, &message).await;
        let expected: Vec<_> = expected.into_iter().map(|(key, payload)| (key.to_owned(), payload)).collect();
        assert_eq!(of(&children), expected, "{shape}");
        for child in &children {
            assert_eq!((&child["parent_id"], &child["hop"]), (&json!(id), &json!(1)));
            assert_eq!(child["state"], "unrouted");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_brings_is_noted_and_routed_on() {
    let endpoint = Scripted::start(|asked: &Asked| match (asked.path.as_str(), asked.before) {
        ("/capture", _) => asked.acknowledge(json!({})),
        (_, 0 | 1) => Reply::Says(503, Vec::new(), json!({ "notifications": [{ "level": "warn", "subject": "down" }] }).to_string()),
        _ => asked.acknowledge(json!({ "messages": [
            { "message": "notification:info", "payload": { "subject": "Shipped", "description": "#H1", "reference_type": "order", "reference_id": "H1" } },
            { "message": "payment:capture", "payload": { "amount": "19.99" } },
        ] })),
    })
    .await;
    let app = store(&endpoint).await;
    app.mapping("capture", "warehouse", &["payment:capture"], json!({ "service": "capture" })).await;
    app.mapping("notes", "warehouse", &["notification:*"], json!({ "service": "capture" })).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    for child in children(&app, &message).await {
        app.delivered(child["message_id"].as_str().unwrap(), "COMPLETE").await;
    }
    let mut log = app.log().await;
    log.sort();
    let entry = |level: &str, subject: &str, description: &str, times| {
        (level.to_owned(), subject.to_owned(), description.to_owned(), times)
    };
    assert_eq!(log, [entry("info", "Shipped", "#H1", 1), entry("warn", "down", "", 2)]);
    let entries = &app.told(&id).await["log_entries"];
    assert_eq!(entries.as_array().unwrap().len(), 2, "{entries}");
    let captured: Vec<_> = endpoint.asked().into_iter().filter(|asked| asked.path == "/capture").collect();
    assert_eq!(captured.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_business_error_is_delivered_and_never_tried_again() {
    for answer in [
        json!({ "messages": [{ "message": "notification:error", "payload": { "subject": "no" } }] }),
        json!({ "notifications": [{ "level": "error", "subject": "no" }] }),
    ] {
        let endpoint = Scripted::start(move |asked: &Asked| asked.acknowledge(answer.clone())).await;
        let app = store(&endpoint).await;
        let id = app.tell("order:new", json!({})).await;
        let message = app.delivered(&id, "COMPLETE").await;
        assert_eq!(message["deliveries"][0]["business_error"], true);
        assert_eq!(of(&children(&app, &message).await)[0].0, "notification:error");
        assert_eq!(app.log().await.len(), 1);
        app.elapse(Duration::from_hours(48)).await;
        app.server.run_until_idle().await.unwrap();
        assert_eq!(endpoint.asked().len(), 1);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_cannot_be_routed_are_kept_aside_and_delayed_ones_wait() {
    let endpoint = Scripted::start(|asked: &Asked| {
        if asked.json()["message"] != "order:new" {
            return asked.acknowledge(json!({}));
        }
        asked.acknowledge(json!({ "messages": [
            { "message": "Broken Key" }, { "message": "order:x", "payload": [1] },
            { "message": "order:later", "delay": 3600 }, { "message": "order:refused\u{0}" },
        ] }))
    })
    .await;
    let app = store(&endpoint).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    let before = children(&app, &message).await;
    let states: Vec<&str> = before.iter().map(|child| child["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["parked", "parked", "pending", "parked"]);
    app.elapse(Duration::from_secs(3601)).await;
    let later = before[2]["message_id"].as_str().unwrap();
    assert_eq!(app.delivered(later, "COMPLETE").await["state"], "routed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_bring_what_its_mapping_allows() {
    let answer = json!({ "messages": [{ "message": "order:x" }, { "message": "secret:plan" }] });
    let endpoint = Scripted::start(move |asked: &Asked| match asked.json()["message"].as_str() {
        Some("order:new") => asked.acknowledge(answer.clone()),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = store(&endpoint).await;
    let options = json!({ "options": { "allow_responses": ["order:*"] } });
    app.mapping("ship", "warehouse", &["order:*", "secret:*"], options).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    let children = children(&app, &message).await;
    assert_eq!((&children[0]["state"], &children[1]["state"]), (&json!("routed"), &json!("parked")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_answer_each_other_in_circles_are_stopped() {
    let endpoint = Scripted::start(|asked: &Asked| {
        asked.acknowledge(json!({ "message": "order:again", "payload": { "after": asked.id() } }))
    })
    .await;
    let app = store(&endpoint).await;
    // As often as a mapping may allow it: then the hops end it.
    app.mapping("ship", "warehouse", &["order:*"], json!({ "options": { "revisit": 25 } })).await;
    app.tell("order:new", json!({})).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(endpoint.asked().len(), 26);
    let parked = json(app.get(&format!("{STORE}/messages?state=parked")).await, 200).await;
    assert_eq!(parked["messages"].as_array().unwrap().len(), 1);
    assert_eq!(parked["messages"][0]["hop"], 26);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_answer_is_fetched_where_and_when_it_says() {
    let endpoint = Scripted::start(|asked: &Asked| match (asked.path.as_str(), asked.before) {
        ("/take", 1) => asked.acknowledge(json!({ "delay": 3600, "update_url": "/status/7" })),
        ("/take", 0) | ("/status/7", 2) => asked.acknowledge(json!({ "delay": 3600 })),
        ("/status/7", 3) => Reply::status(500),
        ("/status/7", 4) => asked.acknowledge(json!({ "message": "done:now" })),
        other => panic!("{other:?}"),
    })
    .await;
    let app = store(&endpoint).await;
    let options = json!({ "options": { "max_attempts": 2, "retry": { "base": "5ms", "cap": "5ms" } } });
    app.mapping("ship", "warehouse", &["order:*"], options).await;
    let id = app.tell("order:new", json!({ "n": 1 })).await;
    for asked in 1..=3 {
        eventually("it is put off", async || {
            endpoint.asked().len() == asked && app.told(&id).await["deliveries"][0]["attempts"] == asked
        })
        .await;
        let delivery = app.told(&id).await["deliveries"][0].clone();
        assert_eq!(delivery["status"], "PENDING");
        assert!(delivery["next_attempt_at"].is_string());
        app.elapse(Duration::from_secs(3601)).await;
    }
    let message = app.delivered(&id, "COMPLETE").await;
    assert_eq!(of(&children(&app, &message).await), [("done:now".to_owned(), json!({}))]);
    let verdicts: Vec<Value> = app.attempts(&message).await.iter().map(|a| a["verdict"].clone()).collect();
    assert_eq!(verdicts, ["deferred", "deferred", "deferred", "failed", "delivered"]);
    let asked = endpoint.asked();
    assert!(asked.iter().all(|request| request.body == asked[0].body));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lenient_mapping_takes_any_2xx() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::status(500),
        _ => Reply::Says(202, Vec::new(), "thank you".to_owned()),
    })
    .await;
    let app = store(&endpoint).await;
    let options = json!({ "options": { "ack": "lenient", "retry": { "base": "5ms", "cap": "5ms" } } });
    app.mapping("ship", "warehouse", &["order:*"], options).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    assert_eq!(message["deliveries"][0]["attempts"], 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_raises_the_delay_up_to_an_hour() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 => Reply::Says(503, vec![("Retry-After", "999999".to_owned())], String::new()),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = store(&endpoint).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it has failed once", async || app.told(&id).await["deliveries"][0]["attempts"] == 1).await;
    let message = app.told(&id).await;
    let time = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let failed = time(&app.attempts(&message).await[0]["finished_at"]);
    let wait = (time(&message["deliveries"][0]["next_attempt_at"]) - failed).num_seconds();
    assert!((3599..=3600).contains(&wait), "{wait}");
    app.elapse(Duration::from_hours(1)).await;
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_took_and_nobody_can_go_on_with_is_parked_and_not_sent_again() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.json()["payload"]["elsewhere"].as_bool() {
        Some(true) => {
            asked.acknowledge(json!({ "delay": 1, "update_url": "https://elsewhere.example/status" }))
        }
        _ => asked.acknowledge(json!({ "message": "bad:new" })),
    })
    .await;
    let app = store(&endpoint).await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'a rule of this database'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON hub_messages FOR EACH ROW WHEN (NEW.message = 'bad:new')
            EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(refuse).execute(&mut app.connect().await).await.unwrap();
    for (elsewhere, words) in [(true, "another host"), (false, "the database will not take")] {
        let id = app.tell("order:new", json!({ "elsewhere": elsewhere })).await;
        let message = app.delivered(&id, "ERROR").await;
        let said = message["deliveries"][0]["last_error"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
        assert_eq!(app.attempts(&message).await[0]["status_code"], 200);
        assert_eq!(endpoint.asked().iter().filter(|asked| asked.id() == id).count(), 1);
    }
    app.stop().await;
}

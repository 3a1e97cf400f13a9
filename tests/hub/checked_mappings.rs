//! A test message of a mapping: one real request, what would come of it, and what to change.

use super::stage::STORE;
use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::raw::Raw;
use crate::support::scripted::{Asked, Scripted};
use reqwest::Method;
use serde_json::{Value, json};

/// What handlers that return 200 `ok` say on the wire.
const FRAMEWORKS: [(&str, &str); 5] = [
    (
        "flask",
        "HTTP/1.1 200 OK\r\nServer: Werkzeug/3.0.1 Python/3.11.2\r\nDate: Fri, 27 Nov 2026 14:00:00 GMT\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
    (
        "express",
        "HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\n\
         ETag: W/\"2-eoX0dku9ba8cNUXvu/DyeabcC+s\"\r\nDate: Fri, 27 Nov 2026 14:00:00 GMT\r\n\
         Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nok",
    ),
    (
        "sinatra",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html;charset=utf-8\r\nX-XSS-Protection: 1; mode=block\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: SAMEORIGIN\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "php",
        "HTTP/1.1 200 OK\r\nHost: 127.0.0.1:8000\r\nDate: Fri, 27 Nov 2026 14:00:00 GMT\r\nConnection: close\r\n\
         X-Powered-By: PHP/8.2.7\r\nContent-type: text/html; charset=UTF-8\r\n\r\nok",
    ),
    (
        "go",
        "HTTP/1.1 200 OK\r\nDate: Fri, 27 Nov 2026 14:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
];

async fn check(app: &TestApp, mapping: &str, message: Value) -> Value {
    json(app.post(&format!("{STORE}/mappings/{mapping}/check"), &message).await, 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_receivers_take_nothing_of_a_strict_mapping_that_says_why_and_all_of_a_lenient_one() {
    let app = TestApp::start().await;
    for (name, bytes) in FRAMEWORKS {
        let server = Raw::says(bytes).await;
        app.endpoint(name, &format!("http://{}", server.address), json!({})).await;
        let key = format!("to:{name}");
        let once = json!({ "max_attempts": 1 });
        app.mapping(name, name, &[&key], json!({ "options": once })).await;
        let found = check(&app, name, json!({ "message": key })).await;
        assert_eq!(
            (&found["verdict"], &found["ack"], &found["status"], &found["cause"]),
            (&json!("failed"), &json!("strict"), &json!(200), &json!("not_json")),
            "{name}: {found}"
        );
        assert!(found["advice"].as_str().unwrap().contains(r#""ack": "lenient""#), "{name}: {found}");
        assert_eq!(found["answer"]["body"], "ok", "{name}");
        let id = app.tell(&key, json!({})).await;
        let message = app.delivered(&id, "ERROR").await;
        let error = message["deliveries"][0]["last_error"].as_str().unwrap();
        assert!(error.contains(r#""ack": "lenient""#), "{name}: {error}");

        app.mapping(name, name, &[&key], json!({ "options": { "ack": "lenient" } })).await;
        let found = check(&app, name, json!({ "message": key })).await;
        let none = json!(null);
        assert_eq!(
            (&found["verdict"], &found["ack"], &found["cause"], &found["error"], &found["advice"]),
            (&json!("delivered"), &json!("lenient"), &none, &none, &none),
            "{name}: {found}"
        );
        let id = app.tell(&key, json!({})).await;
        app.delivered(&id, "COMPLETE").await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_mapping_sends_what_a_delivery_would_shows_no_secret_and_leaves_nothing() {
    let endpoint = Scripted::start(|asked: &Asked| {
        asked.acknowledge(json!({
            "messages": [{ "message": "order:done", "payload": {} }],
            "parameters": [{ "name": "since", "value": "now" }],
            "echo": asked.body,
        }))
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({ "token": "a-token-of-the-test" })).await;
    app.parameter("shop", json!("blue"), "string").await;
    app.parameter("api_key", json!("a-password-of-the-test"), "password").await;
    let members = json!({ "parameters": ["shop", "api_key"], "enabled": false });
    app.mapping("m", "e", &["order:*"], members).await;
    let test = json!({ "message": "order:new", "payload": { "order": { "number": "R1" } } });
    let found = check(&app, "m", test.clone()).await;
    assert_eq!((&found["verdict"], &found["cause"]), (&json!("delivered"), &json!(null)), "{found}");
    let said = found.to_string();
    assert!(!said.contains("a-token-of") && !said.contains("a-password-of"), "{said}");
    assert_eq!(found["request"]["headers"]["x-hub-token"], "[redacted]");

    let asked = endpoint.asked();
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/take"));
    assert_eq!(asked[0].header("x-hub-test"), Some("true"));
    assert_eq!(asked[0].header("x-hub-token"), Some("a-token-of-the-test"));
    let sent = json!([
        { "name": "shop", "value": "blue" },
        { "name": "api_key", "value": "a-password-of-the-test" },
    ]);
    assert_eq!(asked[0].json()["payload"]["parameters"], sent);
    let shown: Value = serde_json::from_str(found["request"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(shown["payload"]["parameters"][1]["value"], "[redacted]");
    assert_eq!(shown["payload"]["order"], test["payload"]["order"]);

    let stored = json(app.get(&format!("{STORE}/messages")).await, 200).await;
    assert_eq!(stored["messages"], json!([]));
    let deliveries = json(app.get(&format!("{STORE}/deliveries")).await, 200).await;
    assert_eq!(deliveries["deliveries"], json!([]));
    refusal(app.get(&format!("{STORE}/parameters/since")).await, 404).await;

    // What a delivery sends bears no such mark.
    app.mapping("m", "e", &["order:*"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    assert_eq!(endpoint.asked()[1].header("x-hub-test"), None);

    let path = format!("{STORE}/mappings/m/check");
    let problem = refusal(app.post(&path, &json!({ "message": "orders/create" })).await, 422).await;
    assert_eq!(violations(&problem), [("/message", "pattern")]);
    let problem = refusal(app.post(&path, &json!({ "message": "a:b", "payload": 1 })).await, 422).await;
    assert_eq!(violations(&problem), [("/payload", "type")]);
    refusal(app.post(&format!("{STORE}/mappings/none/check"), &test).await, 404).await;
    let writer = app.request_as(&["hub_writer"], Method::POST, &path).json(&test).send().await.unwrap();
    assert_eq!(writer.status(), 403);
    app.stop().await;
}

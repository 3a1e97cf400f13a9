//! Parameters and tokens: sent, learned, and never shown, whatever an endpoint does with them.

use super::stage::STORE;
use crate::engine::ask;
use crate::faults::url_of;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

const PASSWORD: &str = "pa\"ss/w\u{f6}rd & 1";
const TOKEN: &str = "token-of-the-endpoint";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// What nobody may find again, in whatever spelling.
const TRACES: [&str; 6] =
    ["pa\"ss", "pa\\\"ss", "rd & 1", "rd%20%26", TOKEN, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];

fn echo(asked: &Asked) -> String {
    let password = asked.json()["payload"]["parameters"][0]["value"].as_str().unwrap().to_owned();
    let spellings = [
        password.clone(),
        STANDARD.encode(format!("login:{password}")),
        utf8_percent_encode(&password, NON_ALPHANUMERIC).to_string(),
        asked.body.clone(),
        format!("{:?} {SIGNING}", asked.headers),
    ];
    spellings.join("\n")
}

/// Fails with every secret in its answer, and then takes the message with them.
fn talkative(asked: &Asked) -> Reply {
    let echo = echo(asked);
    let note = json!([{ "level": "warn", "subject": "refused", "description": echo, "reference_id": TOKEN }]);
    match asked.before {
        0 => Reply::Says(500, Vec::new(), echo),
        1 => Reply::Says(500, Vec::new(), json!({ "error": echo, "notifications": note }).to_string()),
        2 => asked.acknowledge(json!({ "delay": 0, "error": echo, "notifications": note })),
        _ => asked.acknowledge(json!({
            "messages": [{ "message": "notification:info", "payload": { "subject": echo, "description": [echo] } }],
            "notifications": note,
            "parameters": [{ "name": "api_key", "value": "a new pa\"ssword" }],
        })),
    }
}

fn assert_silent(text: &str, what: &str) {
    let login = STANDARD.encode(format!("login:{PASSWORD}"));
    for trace in TRACES.iter().copied().chain([&login[8..16], "new pa"]) {
        assert!(!text.contains(trace), "{trace} in {what}: {text}");
    }
}

fn definitions(url: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("/parameters/api_key", json!({ "value": PASSWORD, "data_type": "password" })),
        ("/endpoints/e", json!({ "url": url, "token": TOKEN, "signing_secrets": [SIGNING] })),
        (
            "/mappings/m",
            json!({ "endpoint": "e", "service": "take", "messages": ["order:new"], "parameters": ["api_key"],
                "options": { "retry": { "base": "5ms", "cap": "5ms" } } }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_echoes_is_nowhere_to_be_read() {
    let endpoint = Scripted::start(talkative).await;
    let settings = [
        ("POSTRIDER_LOG", "trace"),
        ("POSTRIDER_SECRET_KEY", "a key of the tests of at least 32 characters"),
    ];
    let database = database().await;
    let serve = Serve::on(&url_of(&database), &settings).await;
    let send = async |method: Method, path: &str, body: &Value| {
        let answer = serve.request(method, &format!("{STORE}{path}")).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.text().await.unwrap()
    };
    for (path, body) in definitions(&endpoint.url) {
        assert_silent(&send(Method::PUT, path, &body).await, path);
        assert_silent(&send(Method::GET, path, &json!({})).await, path);
    }
    let body = json!({ "message": "order:new", "payload": {} });
    let stored: Value = serde_json::from_str(&send(Method::POST, "/messages", &body).await).unwrap();
    let path = format!("/messages/{}", stored["message_id"].as_str().unwrap());
    let mut message = Value::Null;
    eventually("it is delivered", async || {
        message = serde_json::from_str(&send(Method::GET, &path, &json!({})).await).unwrap();
        message["deliveries"][0]["status"] == "COMPLETE"
    })
    .await;
    assert_eq!(message["children"].as_array().unwrap().len(), 2);
    let attempts = format!("/deliveries/{}/attempts", message["deliveries"][0]["id"].as_str().unwrap());
    for path in [path.as_str(), &attempts, "/log-entries", "/deliveries", "/parameters/api_key"] {
        let text = send(Method::GET, path, &json!({})).await;
        assert_silent(&text, path);
        assert!(text.contains("[redacted]") || !path.contains("attempts"), "{text}");
    }
    for child in message["children"].as_array().unwrap() {
        let path = format!("/messages/{}", child.as_str().or(child["message_id"].as_str()).unwrap());
        assert_silent(&send(Method::GET, &path, &json!({})).await, "a notification");
    }
    assert_silent(&serve.log().join("\n"), "the log");
    // And yet it was sent, and what the answer set is sent from now on.
    send(Method::POST, "/messages", &body).await;
    eventually("it is asked", async || endpoint.asked().len() == 5).await;
    let listed = |asked: &Asked| asked.json()["payload"]["parameters"].clone();
    let asked = endpoint.asked();
    assert_eq!(listed(&asked[0]), json!([{ "name": "api_key", "value": PASSWORD }]));
    assert_eq!(listed(&asked[4]), json!([{ "name": "api_key", "value": "a new pa\"ssword" }]));
    let mut db = crate::faults::connect(&database).await;
    let sealed = "SELECT value IS NULL AND sealed IS NOT NULL FROM parameters";
    assert!(ask::<bool>(&mut db, sealed).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_that_an_answer_sets_is_sent_from_then_on() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let n = asked.json()["payload"]["n"].as_i64().unwrap();
        let value = if n == 1 { json!({ "page": 1.0 }) } else { json!(n) };
        asked.acknowledge(
            json!({ "parameters": [{ "name": "since", "value": value }, { "name": "", "value": 1 }] }),
        )
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.parameter("shop", json!("blue"), "string").await;
    app.parameter("lookup", json!([{ "a": "b" }]), "list").await;
    let parameters = json!({ "parameters": ["shop", "absent", "lookup"] });
    app.mapping("m", "e", &["order:new"], parameters).await;
    app.mapping("other", "e", &["other:new"], json!({})).await;
    for n in 1..=3 {
        let id =
            app.tell("order:new", json!({ "n": n, "parameters": { "since": "mine", "shop": "mine" } })).await;
        app.delivered(&id, "COMPLETE").await;
    }
    let id = app.tell("other:new", json!({ "n": 4 })).await;
    app.delivered(&id, "COMPLETE").await;
    let sent: Vec<Value> =
        endpoint.asked().iter().map(|a| a.json()["payload"]["parameters"].clone()).collect();
    let linked = |since: Value| json!([{ "name": "shop", "value": "blue" }, { "name": "lookup", "value": [{ "a": "b" }] }, { "name": "since", "value": since }]);
    let shop = json!({ "name": "shop", "value": "blue" });
    let lookup = json!({ "name": "lookup", "value": [{ "a": "b" }] });
    assert_eq!(sent[0], json!([{ "name": "since", "value": "mine" }, shop, lookup]));
    assert_eq!(sent[1], linked(json!({ "page": 1.0 })));
    assert_eq!(sent[2], linked(json!(2)));
    assert_eq!(sent[3], json!([]), "what one mapping has learned is not for another");
    app.stop().await;
}

//! What the hub carries goes on as it was sent, whatever JSON allows: in and out, and what answers bring.

use super::stage::STORE;
use crate::support::answer::{json, refusal, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// What no `jsonb` and no string of Rust holds, and what one would write in another way.
const WILD: &str = r#""a\u0000":"\ud800","n":1e400,"n":123456789012345678901234567890.10,"e":"\u00e9""#;

/// The id of the message that a request is about. No reader of JSON is asked.
fn id(asked: &Asked) -> String {
    asked.body.split(r#""message_id":""#).nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_and_what_answers_bring_go_on_as_they_stand() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let id = id(asked);
        let answer = if asked.body.contains("order:new") {
            format!(
                r#"{{"message_id":"{id}","messages":[{{"message":"order:done","payload":{{{WILD}}}}}],"parameters":[{{"name":"mark\u0000","value":{{{WILD}}}}}],"notifications":[{{"level":"info","subject":"a\u0000b\ud800","x":1e400}}]}}"#
            )
        } else {
            format!(r#"{{"message_id":"{id}"}}"#)
        };
        Reply::Says(200, Vec::new(), answer)
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    // Whose rules look into the payload.
    let looks = json!({
        "filters": [{ "path": "payload.n", "operator": "gt", "value": 1 }],
        "identifiers": { "which": "payload.which" },
    });
    app.mapping("m", "e", &["order:*"], looks).await;
    let body = format!(r#"{{"message":"order:new","payload":{{"which":1,{WILD}}}}}"#);
    let pushed = app.request(Method::POST, &format!("{STORE}/messages"));
    let pushed = pushed.header("content-type", "application/json").body(body).send().await.unwrap();
    json(pushed, 201).await;
    let mut db = app.connect().await;
    sqlx::query("SELECT publish('s1', 'order:new', $1::text::json)")
        .bind(format!(r#"{{"which":"\ud800",{WILD}}}"#))
        .execute(&mut db)
        .await
        .unwrap();
    eventually("two and their children are delivered", async || endpoint.asked().len() == 4).await;
    for asked in endpoint.asked() {
        assert!(asked.body.contains(WILD), "{}", asked.body);
    }
    eventually("all is done", async || {
        let page = json(app.get(&format!("{STORE}/deliveries?status=COMPLETE")).await, 200).await;
        page["deliveries"].as_array().unwrap().len() == 4
    })
    .await;
    let parameter = text(app.get(&format!("{STORE}/parameters")).await, 200).await;
    assert!(parameter.contains("mark\u{fffd}") && parameter.contains(WILD), "{parameter}");
    let log = app.log().await;
    assert!(log.iter().any(|(_, subject, ..)| subject == "a\u{fffd}b\u{fffd}"), "{log:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_compared_by_what_the_body_says_and_texts_refuse_u_0000() {
    let app = TestApp::start().await;
    let send = async |key: &str, body: &str| {
        let request = app.request(Method::POST, &format!("{STORE}/messages")).header("idempotency-key", key);
        request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
    };
    let first = json(send("k", r#"{"message":"order:new","payload":{"a":1,"b":"é"}}"#).await, 201).await;
    let again = send("k", "{ \"payload\": {\"b\":\"\\u00e9\", \"a\":1}, \"message\":\"order:new\" }").await;
    assert_eq!(json(again, 200).await["message_id"], first["message_id"]);
    refusal(send("k", r#"{"message":"order:new","payload":{"a":1.0,"b":"é"}}"#).await, 409).await;
    refusal(send("l", r#"{"message":"order:\u0000"}"#).await, 422).await;
    let retry = app.request(Method::POST, &format!("{STORE}/deliveries/retry"));
    let retry = retry.header("content-type", "application/json").body(r#"{"mapping":"a\u0000"}"#);
    refusal(retry.send().await.unwrap(), 400).await;
    for (path, definition) in [
        ("endpoints/e", r#"{"url":"http://127.0.0.1/\u0000"}"#),
        ("mappings/m", r#"{"endpoint":"e\u0000","service":"s","messages":["a:b"]}"#),
        ("mappings/m", r#"{"endpoint":"e","service":"s\u0000","messages":["a:b"]}"#),
        ("mappings/m", r#"{"endpoint":"e","service":"s","messages":["a:b"],"parameters":["p\u0000"]}"#),
    ] {
        let put = app.request(Method::PUT, &format!("{STORE}/{path}"));
        let put = put.header("content-type", "application/json").body(definition).send().await.unwrap();
        refusal(put, 422).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_mappings_hold_whatever_is_a_value() {
    let app = TestApp::start().await;
    app.endpoint("e", "http://127.0.0.1:9", json!({})).await;
    let put = async |path: &str, body: &str| {
        let request = app.request(Method::PUT, &format!("{STORE}/{path}"));
        request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
    };
    let value = format!(r#"{{"value":[{{{WILD}}}],"data_type":"list"}}"#);
    assert!(put("parameters/p", &value).await.status().is_success());
    assert!(text(app.get(&format!("{STORE}/parameters/p")).await, 200).await.contains(WILD));
    let mapping = r#"{"endpoint":"e","service":"s","messages":["a:b"],"every":"1h","filters":[{"path":"payload.x","operator":"eq","value":"\u0000\ud800"}]}"#;
    let mapping = mapping.replace(r#""every":"1h""#, r#""schedule":{"every":"1h","message":"a:b"}"#);
    for status in [201, 200] {
        // Put again, it is compared with what is stored.
        text(put("mappings/m", &mapping).await, status).await;
    }
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    let read = text(other.get(&format!("{STORE}/mappings/m")).await, 200).await;
    assert!(read.starts_with(&mapping[..mapping.len() - 1]), "{read}");
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_claims_stay_what_was_put_in_the_definition_and_in_the_token() {
    const NUMBERS: &str =
        r#""big":123456789012345678901234567890,"fine":0.10000000000000000001,"one":1.0,"far":1e400"#;
    let receiver = Scripted::start(|_: &Asked| Reply::status(200)).await;
    let app = TestApp::start().await;
    let definition = format!(
        r#"{{"wire":"raw","url":"{}","sign":[{{"secrets":["a key of 32 characters at the least"],"kind":"jwt","header":"X-Token","alg":"HS256","claims":{{{NUMBERS}}}}}],"events":["a.b"],"disable":{{"failures":1}}}}"#,
        receiver.url
    );
    let put = async |body: String| {
        let request = app.request(Method::PUT, &format!("{STORE}/endpoints/e"));
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    };
    let shown = text(put(definition.clone()).await, 201).await;
    let stored = definition.replace("a key of 32 characters at the least", "[redacted]");
    assert_eq!(shown, stored);
    let token = async || {
        let before = receiver.asked().len();
        app.tell("a.b", json!({})).await;
        eventually("it is asked", async || receiver.asked().len() > before).await;
        let token = receiver.asked().pop().unwrap().header("x-token").unwrap().to_owned();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        String::from_utf8(claims).unwrap()
    };
    let claims = token().await;
    for number in NUMBERS.split(',') {
        assert!(claims.contains(number), "{number}: {claims}");
    }
    // What was read is put back, and what its failures switch off is still the same.
    let read = text(app.get(&format!("{STORE}/endpoints/e")).await, 200).await;
    text(put(read).await, 200).await;
    assert_eq!(token().await.len(), claims.len());
    receiver.follow(|_| Reply::status(500));
    app.tell("a.b", json!({})).await;
    let mut read = String::new();
    eventually("it is switched off", async || {
        read = text(app.get(&format!("{STORE}/endpoints/e")).await, 200).await;
        read.contains(r#""enabled":false"#)
    })
    .await;
    assert!(read.starts_with(&stored[..stored.len() - 1]), "{read}");
    app.stop().await;
}

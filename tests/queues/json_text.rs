//! Every JSON text that RFC 8259 allows is taken everywhere, and kept as it was sent.

use super::messages::PECULIAR;
use crate::support::answer::{json, refusal, text, violations};
use crate::support::app::TestApp;
use crate::support::endpoint::Endpoint;
use axum::http::Method;
use serde_json::{Value, json};

/// What no string of Rust, no number of it or no text of PostgreSQL holds.
const WILD: &[&str] = &[
    r#""\u0000""#,
    r#"{"\u0000":"a\u0000b"}"#,
    r#""\ud800""#,
    r#"{"\uDC00":["\ud83d\ud83d","\ud800\u0041"]}"#,
    "1e400",
    "[-1E+400,1e99999999999]",
    r#"{"a":1e400,"a":"\ud800","a":2}"#,
];

fn all() -> impl Iterator<Item = String> {
    let deep = "[".repeat(120) + r#""\ud800\u0000",1e400"# + &"]".repeat(120);
    WILD.iter().chain(PECULIAR).map(|text| (*text).to_owned()).chain([deep])
}

async fn send(app: &TestApp, method: Method, path: &str, body: String) -> reqwest::Response {
    app.request(method, path).header("content-type", "application/json").body(body).send().await.unwrap()
}

/// The id and the lease of the one message that waits.
async fn claim(app: &TestApp) -> (String, String) {
    let claimed = text(app.post("/queues/q/claim", &json!(null)).await, 200).await;
    let word = |name: &str| {
        let rest = claimed.split(&format!("\"{name}\":\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    (word("id"), word("lease"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_workers_ends_are_kept_as_they_were_sent() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    for sent in all() {
        for (end, member) in [("complete", "result"), ("fail", "error")] {
            let pushed = text(app.push_text("q", sent.clone()).await, 201).await;
            assert!(pushed.contains(&format!(r#""request":{sent},"#)), "{pushed}");
            let (id, lease) = claim(&app).await;
            let body = format!(r#"{{"lease":"{lease}","{member}":{sent}}}"#);
            text(send(&app, Method::POST, &format!("/queues/q/messages/{id}/{end}"), body).await, 204).await;
            let read = text(app.get(&format!("/queues/q/messages/{id}")).await, 200).await;
            // `null` is no error, so it is told as one that says so.
            if (end, sent.as_str()) != ("fail", "null") {
                assert!(read.contains(&format!(r#""{member}":{sent}"#)), "{sent}: {read}");
            }
        }
    }
    let batch = format!("[{}]", all().collect::<Vec<_>>().join(","));
    json(send(&app, Method::POST, "/queues/q/messages:batch", batch).await, 201).await;
    let claimed = text(app.post("/queues/q/claim?max=100", &json!(null)).await, 200).await;
    for sent in all() {
        assert!(claimed.contains(&format!(r#""request":{sent},"#)), "{sent}");
    }
    // Whoever looks into it all the same finds a way.
    for report in ["error_rate", "attempts_by_outcome", "oldest_due", "queue_depth"] {
        text(app.get(&format!("/reports/{report}")).await, 200).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_judges_them_and_may_hold_them_itself() {
    let app = TestApp::start().await;
    let put = async |schema: &str| {
        let definition = format!(r#"{{"handler":{{"kind":"worker"}},"incoming":{{"schema":{schema}}}}}"#);
        let answer = send(&app, Method::PUT, "/queues/q", definition.clone()).await;
        assert!(answer.status().is_success(), "{schema}: {}", answer.text().await.unwrap());
        let read = text(app.get("/queues/q").await, 200).await;
        assert!(read.starts_with(&definition[..definition.len() - 1]), "{read}");
    };
    let status = async |message: &str| app.push_text("q", message.to_owned()).await.status().as_u16();
    for (schema, good, bad) in [
        (r#"{"const":"a\u0000"}"#, r#""a\u0000""#, r#""a""#),
        (r#"{"const":"\ud800"}"#, r#""\ud800""#, r#""a""#),
        (r#"{"type":"string","maxLength":2}"#, r#""\ud800\u0000""#, r#""\ud800\u0000\u0000""#),
        (r#"{"type":"number"}"#, "1e400", r#""1e400""#),
        (r#"{"maximum":7}"#, "-1e400", "1e400"),
        (r#"{"type":"object","required":["\u0000"]}"#, r#"{"\u0000":1e400}"#, r#"{"\ud800":1}"#),
        (r#"{"additionalProperties":{"type":"string"}}"#, r#"{"\ud800":"\udc00"}"#, r#"{"\ud800":1e400}"#),
        (r#"{"uniqueItems":true}"#, r#"["\u0000","a"]"#, r#"["\u0000","\u0000"]"#),
    ] {
        put(schema).await;
        assert_eq!((status(good).await, status(bad).await), (201, 422), "{schema}");
    }
    // A schema sees U+FFFD in the place of half a pair, and says where.
    put(r#"{"properties":{"a":{"const":"x"}}}"#).await;
    let problem = refusal(app.push_text("q", r#"{"a":"\ud800","\u0000":1}"#).await, 422).await;
    assert_eq!(violations(&problem), [("/a", "const")]);

    // The handler by itself keeps the schema as it stands.
    put(r#"{"const":"\u0000\ud800","default":1e400,"x":12345678901234567890123}"#).await;
    json(app.put("/queues/q/handler", &json!({ "kind": "worker" })).await, 200).await;
    let kept = text(app.get("/queues/q").await, 200).await;
    assert!(kept.contains(r#""const":"\u0000\ud800","default":1e400,"x":12345678901234567890123"#), "{kept}");
    // Another process reads the definition as it is stored, and SQL its options.
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    assert_eq!(other.push_text("q", r#""\u0000\ud800""#).await.status(), 201);
    let mut db = app.connect().await;
    sqlx::query("SELECT enqueue('q', '1')").execute(&mut db).await.unwrap();
    for report in ["oldest_due", "queue_depth"] {
        text(app.get(&format!("/reports/{report}")).await, 200).await;
    }
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_a_definition_refuse_u_0000() {
    let app = TestApp::start().await;
    for definition in [
        r#"{"client_id":"a\u0000"}"#,
        r#"{"roles":{"roles":["a\u0000"]}}"#,
        r#"{"handler":{"kind":"native","name":"a\u0000"}}"#,
        r#"{"handler":{"kind":"javascript","source":"\u0000"}}"#,
    ] {
        refusal(send(&app, Method::PUT, "/queues/q", definition.to_owned()).await, 422).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_hands_strings_through_as_they_are() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = m => [m.s, m.s.length, m.s.charCodeAt(0), m.n > 1e308]")
        .await;
    let pushed = json(app.push_text("q", r#"{"s":"\ud800\u0000\udc00x","n":1e400}"#).await, 201).await;
    let id = pushed["id"].as_str().unwrap();
    app.server.run_until_idle().await.unwrap();
    let read = text(app.get(&format!("/queues/q/messages/{id}")).await, 200).await;
    assert!(read.contains(r#""result":["\ud800\u0000\udc00x",4,55296,true]"#), "{read}");

    app.define_javascript("q", r#"module.exports = m => Promise.reject({ "\ud800": "\u0000" })"#).await;
    let id = app.push("q", &json!(1)).await;
    app.server.run_until_idle().await.unwrap();
    let read = text(app.get(&format!("/queues/q/messages/{id}")).await, 200).await;
    assert!(read.contains(r#""error":{"\ud800":"\u0000"}"#), "{read}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_http_handler_answers_is_kept_as_it_is_by_the_same_rules() {
    let app = TestApp::start().await;
    let endpoint = Endpoint::start(str::to_owned).await;
    app.define("q", json!({ "handler": { "kind": "http", "url": endpoint.url } })).await;
    for sent in all() {
        let pushed = text(app.push_text("q", sent.clone()).await, 201).await;
        let id = pushed.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        app.server.run_until_idle().await.unwrap();
        let read = text(app.get(&format!("/queues/q/messages/{id}")).await, 200).await;
        assert!(read.contains(&format!(r#""result":{sent},"error":null"#)), "{sent}: {read}");
    }
    let deep = Endpoint::start(|_| "[".repeat(129) + &"]".repeat(129)).await;
    app.define("q", json!({ "handler": { "kind": "http", "url": deep.url } })).await;
    let ended: Value = app.handled("q", &json!(1)).await;
    assert_eq!(ended["error"]["name"], "InvalidResult", "{ended}");
    app.stop().await;
}

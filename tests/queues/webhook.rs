//! The http handler, against a server that answers as a test has written down.

use crate::support::answer::json;
use crate::support::app::TestApp;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An answer: its status, headers and body.
type Line = (u16, Vec<(&'static str, String)>, String);

/// What a server answers, and what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Line>>>,
    asked: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Script {
    fn say(&self, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.answers.lock().unwrap().push_back((status, headers, body.to_owned()));
    }

    fn asked(&self) -> Vec<(HeaderMap, Bytes)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn answer(self, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap, String) {
        self.asked.lock().unwrap().push((headers, body));
        let next = self.answers.lock().unwrap().pop_front();
        // Nothing written down: it never answers.
        let Some((status, named, body)) = next else { return std::future::pending().await };
        let mut headers = HeaderMap::new();
        for (name, value) in named {
            headers.insert(name, value.parse().unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), headers, body)
    }

    /// Serves it as long as the set lives; returns the port.
    async fn serve(&self) -> (JoinSet<()>, u16) {
        let script = self.clone();
        let router = axum::Router::new().fallback(move |headers, body| script.clone().answer(headers, body));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (serving, port)
    }
}

/// A definition of a queue whose messages go to this port, with quick retries.
fn definition(port: u16) -> Value {
    json!({
        "handler": { "kind": "http", "url": format!("http://127.0.0.1:{port}/in?x=1"), "secret": SECRET },
        "options": { "timeout": "10s", "retry": { "base": "1ms", "cap": "1ms" } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_decides_how_the_message_ends() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    let failed = |status: u16, words: &str, body: Value| {
        let mut error = json!({ "name": "HttpError", "message": format!("the handler answered {words}"), "status": status });
        if !body.is_null() {
            error["body"] = body;
        }
        error
    };
    let not_json = json!({ "name": "InvalidResult", "message": "the answer is not JSON" });
    let table = [
        (200, r#"{"a":1}"#, "COMPLETE", json!({ "a": 1 })),
        (201, " [1] ", "COMPLETE", json!([1])),
        (200, "null", "COMPLETE", json!(null)),
        (204, "", "COMPLETE", json!(null)),
        (200, "", "COMPLETE", json!(null)),
        (200, "<html>", "ERROR", not_json),
        (400, r#"{"why":"no"}"#, "ERROR", failed(400, "400 Bad Request", json!({ "why": "no" }))),
        (404, "not found", "ERROR", failed(404, "404 Not Found", json!(null))),
        (422, "", "ERROR", failed(422, "422 Unprocessable Entity", json!(null))),
        (304, "", "ERROR", failed(304, "304 Not Modified", json!(null))),
    ];
    for (status, body, ends, stored) in table {
        script.say(status, &[], body);
        let id = app.push("q", &json!(status)).await;
        let message = app.ended("q", &id).await;
        let key = if ends == "ERROR" { "error" } else { "result" };
        assert_eq!((&message["status"], &message[key]), (&json!(ends), &stored), "{status} {body}");
        assert_eq!(script.asked().len(), 1, "{status} {body}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_kept_as_the_handler_answered() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    for result in super::messages::PECULIAR {
        script.say(200, &[], result);
        let id = app.push("q", &json!(1)).await;
        app.ended("q", &id).await;
        let read = app.get(&format!("/queues/q/messages/{id}")).await.text().await.unwrap();
        assert!(read.contains(&format!(r#""result":{result},"error""#)), "{read}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_server_is_asked_again_for_the_same_message() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    script.say(500, &[], r#"{"trace":"x"}"#);
    script.say(503, &[], "");
    script.say(200, &[], "\"at last\"");
    let sent = "{ \"b\" : 1.0,\n \"a\" : [ ] }";
    let id = json(app.push_text("q", sent).await, 201).await["id"].as_str().unwrap().to_owned();
    let message = app.ended("q", &id).await;
    assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), &json!("at last")));
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    for ((headers, body), attempt) in asked.iter().zip(1..) {
        assert_eq!(body, sent.as_bytes());
        assert_eq!(headers["webhook-id"], *id);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(
            (&headers["postrider-queue"], &headers["postrider-attempt"]),
            (&"q".parse().unwrap(), &attempt.into())
        );
        assert!(headers["user-agent"].to_str().unwrap().starts_with("postrider/"));
        for ours in ["authorization", "cookie", "x-access-token", "traceparent-secret"] {
            assert!(!headers.contains_key(ours), "{ours}");
        }
        assert_signed(headers, body);
    }
    let full = app.whole_message("q", &id).await;
    assert_eq!(full["attempts"], 3);
    assert_eq!(full["history"][0]["error"]["body"], json!({ "trace": "x" }));
    assert_eq!(full["history"][1]["error"]["status"], 503);
    app.stop().await;
}

/// The signature of Standard Webhooks: HMAC-SHA256 over id, timestamp and body.
fn assert_signed(headers: &HeaderMap, body: &Bytes) {
    let text = |name: &str| headers[name].to_str().unwrap();
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let mut signed = format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(body);
    let signature = text("webhook-signature").strip_prefix("v1,").unwrap();
    aws_lc_rs::hmac::verify(&key, &signed, &STANDARD.decode(signature).unwrap()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let sent: u64 = text("webhook-timestamp").parse().unwrap();
    assert!(sent.abs_diff(now) < 300, "{sent} is not now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_secret_signs_on_and_who_has_no_key_leaves_the_message_to_others() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    let shown = json(app.get("/queues/q").await, 200).await;
    json(app.put("/queues/q", &shown).await, 200).await;
    json(app.put("/queues/q/handler", &shown["handler"]).await, 200).await;
    app.define("q", json!({ "options": { "timeout": "10s" } })).await;
    script.say(200, &[], "1");
    let id = app.push("q", &json!(1)).await;
    assert_eq!(app.ended("q", &id).await["status"], "COMPLETE");
    let (headers, body) = script.asked().pop().unwrap();
    assert_signed(&headers, &body);
    let database = app.database.clone();
    app.stop().await;

    let keyless = TestApp::on(database.clone(), &[("POSTRIDER_SECRET_KEY", "")], |app| app).await;
    let refused = keyless.put("/queues/other", &definition(port)).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("POSTRIDER_SECRET_KEY"));
    let id = keyless.push("q", &json!(2)).await;
    keyless.server.run_until_idle().await.unwrap();
    assert_eq!(keyless.message("q", &id).await["status"], "PENDING");
    script.say(200, &[], "2");
    let app = TestApp::on(database, &[], |app| app).await;
    assert_eq!(app.ended("q", &id).await["result"], 2);
    let (headers, body) = script.asked().pop().unwrap();
    assert_signed(&headers, &body);
    keyless.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_to_the_end_makes_an_error() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    for status in [500, 408, 429] {
        script.say(status, &[], "");
    }
    let id = app.push("q", &json!(1)).await;
    let message = app.ended("q", &id).await;
    assert_eq!((&message["status"], &message["error"]["status"]), (&json!("ERROR"), &json!(429)));
    assert_eq!(script.asked().len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_heeded() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    script.say(503, &[("retry-after", "7200")], "");
    script.say(200, &[], "1");
    let id = app.push("q", &json!(1)).await;
    crate::support::eventually("the first attempt has failed", async || {
        app.whole_message("q", &id).await["history"] != json!([])
    })
    .await;
    let full = app.whole_message("q", &id).await;
    assert_eq!(full["status"], "PENDING");
    let time = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let wait = (time(&full["run_at"]) - time(&full["history"][0]["finished_at"])).num_seconds();
    assert!((3599..=3600).contains(&wait), "an hour at most, not {wait} s");
    app.elapse(Duration::from_secs(3601)).await;
    assert_eq!(app.ended("q", &id).await["result"], 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_asked_again() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    let mut silent = definition(port);
    silent["options"]["timeout"] = json!("50ms");
    app.define("silent", silent).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    app.define("nobody", definition(unused)).await;
    for (queue, cause, words) in [
        ("silent", "timeout", "timeout: no answer in time"),
        ("nobody", "refused", "refused: the server accepts no connection"),
    ] {
        let id = app.push(queue, &json!(1)).await;
        let message = app.ended(queue, &id).await;
        assert_eq!(message["error"], json!({ "name": "RequestFailed", "message": words, "cause": cause }));
        assert_eq!(app.whole_message(queue, &id).await["attempts"], 3);
    }
    assert_eq!(script.asked().len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let (script, elsewhere) = (Script::default(), Script::default());
    let (_serving, port) = script.serve().await;
    let (_serving_elsewhere, other_port) = elsewhere.serve().await;
    let app = TestApp::start().await;
    app.define("q", definition(port)).await;
    for status in [301, 302, 303, 307, 308] {
        script.say(status, &[("location", &format!("http://127.0.0.1:{other_port}/"))], "");
        let id = app.push("q", &json!(1)).await;
        let message = app.ended("q", &id).await;
        assert_eq!((&message["status"], &message["error"]["status"]), (&json!("ERROR"), &json!(status)));
    }
    assert_eq!((script.asked().len(), elsewhere.asked().len()), (5, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_asked_only_where_the_operator_allows_it() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::with(&[("POSTRIDER_ALLOW_NETWORKS", "")], |app| app).await;
    // A literal address is refused when it is put, a name when it is resolved.
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3"] {
        let mut definition = definition(port);
        definition["handler"]["url"] = json!(format!("http://{host}:{port}/"));
        assert_eq!(app.put("/queues/q", &definition).await.status(), 422, "{host}");
    }
    let mut definition = definition(port);
    definition["handler"]["url"] = json!(format!("http://localhost:{port}/"));
    app.define("q", definition).await;
    let message = app.handled("q", &json!(1)).await;
    assert_eq!(
        (&message["status"], &message["error"]["name"]),
        (&json!("ERROR"), &json!("RequestRefused")),
        "{message}"
    );
    assert!(!message["error"].to_string().contains("127.0.0.1"), "{message}");
    assert_eq!(script.asked().len(), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_when_it_has_time_again_is_asked_then_without_a_count() {
    let script = Script::default();
    let (_serving, port) = script.serve().await;
    let app = TestApp::start().await;
    let mut definition = definition(port);
    definition["options"]["max_attempts"] = json!(1);
    app.define("q", definition).await;
    for status in [429, 503, 429] {
        script.say(status, &[("retry-after", "0")], "");
    }
    script.say(204, &[], "");
    let id = app.push("q", &json!(1)).await;
    assert_eq!(app.ended("q", &id).await["status"], "COMPLETE");
    let full = app.whole_message("q", &id).await;
    let endings: Vec<_> = full["history"].as_array().unwrap().iter().map(|entry| &entry["ending"]).collect();
    assert_eq!(endings, ["snoozed", "snoozed", "snoozed", "completed"]);
    assert_eq!(full["attempts"], 1);
    for (headers, _) in script.asked() {
        assert_eq!(
            (&headers["postrider-attempt"], &headers["postrider-max-attempts"]),
            (&"1".parse().unwrap(), &"1".parse().unwrap())
        );
    }
    app.stop().await;
}

//! Why an attempt failed: one word for each cause, the same wherever it is told.

use super::stage::{STORE, eager};
use crate::faults::url_of;
use crate::support::app::database;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use crate::support::tls::{Tls, key_file};
use reqwest::Method;
use serde_json::{Value, json};

/// A fatal alert of TLS: no version in common.
const PROTOCOL_VERSION: &[u8] = &[0x15, 3, 3, 0, 2, 2, 70];
/// The settings with which a server of HTTP/2 begins.
const HTTP2: &[u8] = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0d\0\x04\0\x10\0\0\0\x06\0\x01\0\0";

struct Stage {
    serve: Serve,
}

impl Stage {
    async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = self.serve.request(method, &format!("{STORE}{path}")).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Has a message fail at this URL, and asserts that every place says why; `reached` if an answer came.
    async fn fails(&self, name: &str, url: &str, cause: &str, reached: bool) {
        let breaker = json!({ "failures": 1000, "cooldown": "1s" });
        let definition = json!({ "url": url, "breaker": breaker, "timeout": "2s" });
        self.send(Method::PUT, &format!("/endpoints/{name}"), &definition).await;
        let messages = [format!("to:{name}")];
        let mapping =
            json!({ "endpoint": name, "service": "take", "messages": messages, "options": eager() });
        self.send(Method::PUT, &format!("/mappings/{name}"), &mapping).await;
        let message = json!({ "message": messages[0], "payload": {} });
        let stored = self.send(Method::POST, "/messages", &message).await;
        let path = format!("/messages/{}", stored["message_id"].as_str().unwrap());
        let mut tried = Value::Null;
        // Again and again, but for an answer that would only be as large again.
        let least = if cause == "body_too_large" { 1 } else { 2 };
        eventually("it is tried again", async || {
            tried = self.send(Method::GET, &path, &json!({})).await["deliveries"][0].take();
            tried["attempts"].as_i64().unwrap() >= least
        })
        .await;
        let begins = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(&format!("{cause}: ")));
        assert!(begins(&tried["last_error"]), "{name}: {tried}");
        let attempts = format!("/deliveries/{}/attempts", tried["id"].as_str().unwrap());
        for attempt in self.send(Method::GET, &attempts, &json!({})).await.as_array().unwrap() {
            assert_eq!((&attempt["verdict"], &attempt["cause"]), (&json!("failed"), &json!(cause)), "{name}");
        }
        let log = self.serve.log();
        let wanted = ["DEBUG", "store", "s1", "endpoint", name, "delivery", "attempt", cause];
        assert!(log.iter().any(|line| wanted.iter().all(|word| line.contains(word))), "{name}: {log:#?}");
        let metrics = self.serve.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let labels = [format!("endpoint=\"{name}\""), format!("cause=\"{cause}\"")];
        let counted = |line: &str| {
            line.starts_with("postrider_delivery_attempts_total{")
                && labels.iter().all(|label| line.contains(label))
        };
        assert!(metrics.lines().any(counted), "{name}: {metrics}");

        let found = self.send(Method::POST, &format!("/mappings/{name}/check"), &message).await;
        assert_eq!(
            (&found["verdict"], &found["cause"]),
            (&json!("failed"), &json!(cause)),
            "{name}: {found}"
        );
        assert!(begins(&found["error"]) && found["advice"].is_string(), "{name}: {found}");
        let found = self.send(Method::POST, &format!("/endpoints/{name}/check"), &json!({})).await;
        assert_eq!(found["reachable"], reached, "{name}: {found}");
        if !reached || cause == "redirect" {
            assert_eq!(found["cause"], cause, "{name}: {found}");
            assert!(begins(&found["error"]) && found["advice"].is_string(), "{name}: {found}");
        }
        // It would go on for ever.
        self.send(Method::PUT, &format!("/endpoints/{name}"), &json!({ "url": url, "enabled": false })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cause_stands_in_the_attempt_the_error_the_checks_the_log_and_the_metric() {
    let ca = key_file("tls-ca.pem");
    let settings = [
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
        ("POSTRIDER_LOG", "info,postrider::hub::delivery::attempt=debug"),
        ("POSTRIDER_SECRET_KEY", "a key of the tests of at least 32 characters"),
    ];
    let stage = Stage { serve: Serve::on(&url_of(&database().await), &settings).await };
    let plain = Scripted::agreeable().await;

    for (name, cause) in
        [("tls-self-signed", "tls_unknown_ca"), ("tls-expired", "tls_expired"), ("tls-elsewhere", "tls_name")]
    {
        let tls = Tls::before(&plain.url, name).await;
        stage.fails(name, &tls.url, cause, false).await;
    }
    let tls = Tls::demanding_a_certificate(&plain.url).await;
    stage.fails("demanding", &tls.url, "tls_client_certificate", false).await;
    let tls = Tls::of_http2_alone(&plain.url).await;
    stage.fails("h2-tls", &tls.url, "http2_only", false).await;
    let raw = Raw::says(PROTOCOL_VERSION).await;
    stage.fails("old-tls", &format!("https://{}", raw.address), "tls_version", false).await;
    assert!(plain.asked().is_empty());

    let many = "a: b\r\n".repeat(500);
    let head = |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\n{rest}\r\n\r\n").into_bytes();
    for (name, bytes, cause, reached) in [
        ("silent", Vec::new(), "reset", false),
        ("ssh", b"SSH-2.0-OpenSSH_9\r\n".to_vec(), "not_http", false),
        ("h2", HTTP2.to_vec(), "http2_only", false),
        ("short", [head("200 OK", "content-length: 5"), b"hi".to_vec()].concat(), "truncated", true),
        ("heads", head("200 OK", &format!("{many}content-length: 0")), "headers_too_large", false),
        ("large", head("200 OK", "content-length: 9000000"), "body_too_large", true),
        (
            "moved",
            head("301 Moved Permanently", "location: https://a.example/\r\ncontent-length: 0"),
            "redirect",
            true,
        ),
        ("broken", head("500 Internal Server Error", "content-length: 0"), "status", true),
        ("accepted", head("202 Accepted", "content-length: 0"), "no_message_id", true),
        ("text", [head("200 OK", "content-length: 2"), b"ok".to_vec()].concat(), "not_json", true),
        (
            "packed",
            [head("200 OK", "content-encoding: gzip\r\ncontent-length: 2"), b"\x1f\x8b".to_vec()].concat(),
            "encoded",
            true,
        ),
        ("mute", [head("200 OK", "content-length: 2"), b"{}".to_vec()].concat(), "no_message_id", true),
        (
            "another",
            [head("200 OK", "content-length: 21"), br#"{"message_id":"1234"}"#.to_vec()].concat(),
            "other_message_id",
            true,
        ),
    ] {
        let raw = Raw::says(bytes).await;
        stage.fails(name, &format!("http://{}", raw.address), cause, reached).await;
    }
    let slow = Scripted::start(|_: &Asked| Reply::Hangs).await;
    stage.fails("slow", &slow.url, "timeout", false).await;
    stage.fails("nobody", "http://127.0.0.1:9", "refused", false).await;
    stage.fails("nowhere", "http://nowhere.invalid", "dns", false).await;
}

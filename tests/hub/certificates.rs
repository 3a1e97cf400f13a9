//! Certificates of endpoints: what does not prove who it is gets nothing, and is asked again.

use super::stage::{STORE, eager};
use crate::faults::url_of;
use crate::support::app::database;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use crate::support::serve::Serve;
use crate::support::tls::{Tls, key_file};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_certificate_is_not_good_is_sent_nothing_and_tried_again() {
    let endpoint = Scripted::agreeable().await;
    let ca = key_file("tls-ca.pem");
    let settings = [
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
        ("POSTRIDER_LOG", "info,postrider::hub::delivery::attempt=debug"),
        ("POSTRIDER_SECRET_KEY", "a key of the tests of at least 32 characters"),
    ];
    let serve = Serve::on(&url_of(&database().await), &settings).await;
    let send = async |method: Method, path: &str, body: &Value| -> Value {
        let answer = serve.request(method, &format!("{STORE}{path}")).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    };
    let tell = async |name: &str, url: &str| {
        let breaker = json!({ "failures": 1000, "cooldown": "1s" });
        let definition = json!({ "url": url, "token": "x123", "breaker": breaker });
        send(Method::PUT, &format!("/endpoints/{name}"), &definition).await;
        let messages = [format!("to:{name}")];
        let mapping =
            json!({ "endpoint": name, "service": "take", "messages": messages, "options": eager() });
        send(Method::PUT, &format!("/mappings/{name}"), &mapping).await;
        let message = json!({ "message": messages[0], "payload": {} });
        let stored = send(Method::POST, "/messages", &message).await;
        format!("/messages/{}", stored["message_id"].as_str().unwrap())
    };
    let delivery = async |path: &str| send(Method::GET, path, &json!({})).await["deliveries"][0].take();

    for (name, alert, cause) in [
        ("tls-self-signed", "UnknownCA", "tls_unknown_ca"),
        ("tls-expired", "CertificateExpired", "tls_expired"),
        ("tls-elsewhere", "BadCertificate", "tls_name"),
    ] {
        let tls = Tls::before(&endpoint.url, name).await;
        let path = tell(name, &tls.url).await;
        let mut tried = Value::Null;
        eventually("it is tried again", async || {
            tried = delivery(&path).await;
            tried["attempts"].as_i64().unwrap() >= 3
        })
        .await;
        let error = tried["last_error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{cause}: ")), "{name}: {error}");
        let attempts = format!("/deliveries/{}/attempts", tried["id"].as_str().unwrap());
        for attempt in send(Method::GET, &attempts, &json!({})).await.as_array().unwrap() {
            assert_eq!((&attempt["verdict"], &attempt["body"]), (&json!("failed"), &json!(null)), "{name}");
            assert_eq!(attempt["cause"], cause, "{name}");
        }
        let log = serve.log();
        let wanted = ["DEBUG", "store", "s1", "endpoint", name, "delivery", "attempt", cause];
        assert!(log.iter().any(|line| wanted.iter().all(|word| line.contains(word))), "{name}: {log:#?}");
        let refusals = tls.refusals();
        assert!(
            refusals.len() >= 3 && refusals.iter().all(|said| said.contains(alert)),
            "{name}: {refusals:?}"
        );
        assert!(endpoint.asked().is_empty(), "{name}");
        // It would go on for ever.
        send(Method::PUT, &format!("/endpoints/{name}"), &json!({ "url": tls.url, "enabled": false })).await;
    }

    let tls = Tls::before(&endpoint.url, "tls-valid").await;
    let path = tell("tls-valid", &tls.url).await;
    eventually("a good one gets it", async || delivery(&path).await["status"] == "COMPLETE").await;
    assert_eq!((endpoint.asked().len(), tls.refusals()), (1, Vec::new()));
}

//! Endpoints that mean harm, or are broken: each attempt is bounded in time and memory, and tried again.

use super::stage::{STORE, eager};
use crate::engine::ask;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};
use std::time::Duration;

/// Does `reply` to the first request and acknowledges the second; returns what the first attempt came to.
async fn tried_again(app: &TestApp, name: &str, reply: Reply, timeout: &str) -> String {
    let endpoint = Scripted::start(move |asked: &Asked| match asked.before {
        0 => reply.clone(),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    app.endpoint(name, &endpoint.url, json!({ "timeout": timeout })).await;
    app.mapping(name, name, &[&format!("hostile:{name}")], json!({})).await;
    let id = app.tell(&format!("hostile:{name}"), json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    let attempts = app.attempts(&message).await;
    assert_eq!((attempts.len(), endpoint.asked().len()), (2, 2), "{name}");
    let kept = attempts[0]["body"].as_str().unwrap_or_default().len();
    assert!(kept <= 4 << 10, "{name}: {kept}");
    // Only the connection that was answered may be kept for the next request.
    eventually("the other connection is gone", async || endpoint.open() <= 1).await;
    let error = attempts[0]["error"].as_str().unwrap();
    assert_eq!(error.split(':').next(), attempts[0]["cause"].as_str(), "{name}");
    error.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_endpoint_does_to_us_it_is_bounded_and_asked_again() {
    let app = TestApp::start().await;
    let metadata = vec![("Location", "http://169.254.169.254/latest/meta-data/".to_owned())];
    let says = |body: String| Reply::Says(200, Vec::new(), body);
    let gzip = Reply::Says(200, vec![("Content-Encoding", "gzip".to_owned())], "\u{1f}x".repeat(100));
    for (name, reply, timeout, cause) in [
        ("drips", Reply::Drips, "300ms", "timeout"),
        ("hangs", Reply::Hangs, "300ms", "timeout"),
        ("resets", Reply::Resets, "60s", "reset"),
        ("redirects", Reply::Says(302, metadata, String::new()), "60s", "redirect"),
        ("packs", gzip, "60s", "encoded"),
        ("nests", says("[".repeat(1 << 20)), "60s", "not_json"),
        ("members", says(format!("{{{}\"a\":1}}", "\"a\":1,".repeat(100_000))), "60s", "no_message_id"),
        ("binary", says("\0\u{1}\u{fffd}".to_owned()), "60s", "not_json"),
        ("escapes", says(format!("[\"{}\"]", "\\u0000%41&amp;+".repeat(60_000))), "60s", "no_message_id"),
    ] {
        let error = tried_again(&app, name, reply, timeout).await;
        assert!(error.starts_with(&format!("{cause}: ")), "{name}: {error}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_nobody_answers_at_and_one_without_tls_are_asked_again_and_again() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let no_tls = endpoint.url.replace("http:", "https:");
    for (name, url, error) in [
        ("nobody", format!("http://{unused}"), "refused: the server accepts no connection"),
        ("plain", no_tls, "reset: the connection ended before an answer came"),
    ] {
        app.endpoint(name, &url, json!({})).await;
        app.mapping(name, name, &[&format!("to:{name}")], json!({})).await;
        let id = app.tell(&format!("to:{name}"), json!({})).await;
        eventually("it is tried again", async || {
            app.told(&id).await["deliveries"][0]["attempts"].as_i64().unwrap() >= 3
        })
        .await;
        let delivery = &app.told(&id).await["deliveries"][0];
        assert_eq!(delivery["last_error"], error);
        app.delete(&format!("{STORE}/mappings/{name}")).await;
    }
    assert!(endpoint.asked().is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_into_a_private_network_is_not_dialled() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::with(&[("POSTRIDER_ALLOW_NETWORKS", "")], |app| app).await;
    app.endpoint("inside", &endpoint.url.replace("127.0.0.1", "localhost"), json!({})).await;
    app.mapping(
        "in",
        "inside",
        &["a:b"],
        json!({ "options": { "max_attempts": 2, "retry": eager()["retry"] } }),
    )
    .await;
    let id = app.tell("a:b", json!({})).await;
    let message = app.delivered(&id, "ERROR").await;
    let attempts = app.attempts(&message).await;
    assert_eq!(attempts.len(), 2);
    let error = attempts[0]["error"].as_str().unwrap();
    assert!(error.contains("not public") && !error.contains("127."), "{error}");
    assert!(endpoint.asked().is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_hang_hold_up_nobody_else() {
    let app = TestApp::start().await;
    let dead = Scripted::start(|_: &Asked| Reply::Hangs).await;
    let alive = Scripted::agreeable().await;
    for n in 0..5 {
        for (kind, endpoint) in [("dead", &dead), ("alive", &alive)] {
            let name = format!("{kind}{n}");
            app.endpoint(&name, &endpoint.url, json!({})).await;
            app.mapping(&name, &name, &["order:new"], json!({})).await;
        }
    }
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(app.tell("order:new", json!({ "n": n })).await);
    }
    eventually("the healthy ones have everything", async || alive.asked().len() == 200).await;
    for id in ids {
        eventually("five of ten are done", async || {
            let message = app.told(&id).await;
            let deliveries = message["deliveries"].as_array().unwrap().clone();
            deliveries.iter().filter(|delivery| delivery["status"] == "COMPLETE").count() == 5
        })
        .await;
    }
    // Eight at a time of each are in the air, and none has had time to end.
    assert_eq!(dead.asked().len(), 40);
    app.server.stop_within(Duration::from_millis(100)).await;
}

/// Has a mapping of its own answered with `reply`, always; returns how its delivery stands, once it was asked twice or
/// is parked.
async fn answered(
    app: &TestApp,
    name: &str,
    reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> Value {
    let endpoint = Scripted::start(reply).await;
    app.endpoint(name, &endpoint.url, json!({})).await;
    app.mapping(name, name, &[&format!("much:{name}")], json!({})).await;
    let id = app.tell(&format!("much:{name}"), json!({})).await;
    let mut delivery = Value::Null;
    eventually("it has ended, or is tried again", async || {
        delivery = app.told(&id).await["deliveries"][0].clone();
        delivery["attempts"].as_i64().unwrap() > 1
            || delivery["status"] == "ERROR"
            || delivery["status"] == "COMPLETE"
    })
    .await;
    delivery["children"] = app.told(&id).await["children"].clone();
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_brings_too_much_parks_its_delivery_at_once() {
    let app = TestApp::start().await;
    let bring = |count: usize| {
        move |asked: &Asked| {
            asked.acknowledge(json!({ "messages": vec![json!({ "message": "part:new" }); count] }))
        }
    };
    for (name, count) in [("some", 101), ("most", 1000)] {
        let delivery = answered(&app, name, bring(count)).await;
        assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("COMPLETE"), &json!(1)), "{name}");
        assert_eq!(delivery["children"].as_array().unwrap().len(), count);
    }
    let parked = |delivery: &Value, words: &str| {
        assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("ERROR"), &json!(1)), "{delivery}");
        assert!(delivery["last_error"].as_str().unwrap().contains(words), "{delivery}");
        // What tells that it is parked, and nothing that the answer brought.
        assert_eq!(delivery["children"].as_array().unwrap().len(), 1, "{delivery}");
    };
    parked(&answered(&app, "many", bring(1001)).await, "1001 messages: more than 1000");
    let notices = |asked: &Asked| {
        let notice = json!({ "level": "info", "subject": "a" });
        asked.acknowledge(
            json!({ "messages": [{ "message": "part:new" }], "notifications": vec![notice; 1000] }),
        )
    };
    parked(&answered(&app, "notices", notices).await, "1001 messages");
    let parameters = |asked: &Asked| {
        let named: Vec<Value> = (0..1001).map(|n| json!({ "name": format!("p{n}"), "value": n })).collect();
        asked.acknowledge(json!({ "parameters": named }))
    };
    parked(&answered(&app, "parameters", parameters).await, "1001 parameters");
    parked(&answered(&app, "endless", |_| Reply::Endless).await, "larger than");
    parked(&answered(&app, "promises", |_| Reply::Promises(10 << 30)).await, "larger than");
    // Who refuses it at such length has not done its work.
    let refuses = |_: &Asked| Reply::Says(503, Vec::new(), "x".repeat((1 << 20) + 1));
    let delivery = answered(&app, "refuses", refuses).await;
    // It waits, or is tried once more at this moment.
    assert!(["PENDING", "INPROGRESS"].contains(&delivery["status"].as_str().unwrap()), "{delivery}");
    let mut db = app.connect().await;
    let parts = "SELECT count(*) FROM hub_messages WHERE message = 'part:new'";
    assert_eq!(ask::<i64>(&mut db, parts).await, 1101);
    app.stop().await;
}

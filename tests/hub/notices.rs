//! What the hub says of itself: messages that mappings route, and log entries, each once for what it tells.

use super::stage::STORE;
use super::upkeep::act;
use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};

/// Where alerts go: it takes everything.
async fn alerts(app: &TestApp) -> Scripted {
    let pager = Scripted::agreeable().await;
    app.endpoint("pager", &pager.url, json!({})).await;
    app.mapping("alerts", "pager", &["hub:*"], json!({ "service": "alert" })).await;
    pager
}

/// What the pager was told: key and payload, without what it is sent beside.
fn told(pager: &Scripted) -> Vec<(String, Value)> {
    let of = |asked: &Asked| {
        let mut body = asked.json();
        let mut payload = body["payload"].take();
        payload.as_object_mut().unwrap().remove("parameters");
        (body["message"].as_str().unwrap().to_owned(), payload)
    };
    pager.asked().iter().map(of).collect()
}

fn keys(pager: &Scripted) -> Vec<String> {
    told(pager).into_iter().map(|(key, _)| key).collect()
}

/// How many messages of this key there are.
async fn count(app: &TestApp, key: &str) -> i64 {
    let page = json(app.get(&format!("{STORE}/messages?message={key}&limit=500")).await, 200).await;
    i64::try_from(page["messages"].as_array().unwrap().len()).unwrap()
}

/// The log entries of this subject: level, description and how often each occurred.
async fn entries(app: &TestApp, subject: &str) -> Vec<(String, String, i64)> {
    let log = app.log().await.into_iter().filter(|(_, other, ..)| other == subject);
    log.map(|(level, _, description, occurrences)| (level, description, occurrences)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_and_recovers_is_told_once_each() {
    let endpoint = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    let pager = alerts(&app).await;
    app.endpoint("e", &endpoint.url, json!({ "breaker": { "failures": 2, "cooldown": "100ms" } })).await;
    app.mapping("all", "e", &["order:new"], json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    // It is tried again and again meanwhile, and opens each time.
    eventually("it is tried again", async || endpoint.asked().len() > 4).await;
    eventually("it is told", async || keys(&pager) == ["hub:endpoint_failing"]).await;
    let (_, payload) = told(&pager).remove(0);
    assert_eq!((&payload["endpoint"], &payload["service"]), (&json!("e"), &json!("take")), "{payload}");
    assert!(payload["error"].as_str().unwrap().starts_with("status: "), "{payload}");
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    app.delivered(&id, "COMPLETE").await;
    eventually("that it is back is told", async || {
        keys(&pager) == ["hub:endpoint_failing", "hub:endpoint_recovered"]
    })
    .await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(
        (count(&app, "hub:endpoint_failing").await, count(&app, "hub:endpoint_recovered").await),
        (1, 1)
    );
    let failing = entries(&app, "An endpoint is failing").await;
    assert!(failing.len() == 1 && failing[0].0 == "error" && failing[0].2 == 1, "{failing:?}");
    let back = entries(&app, "An endpoint has recovered").await;
    assert!(back.len() == 1 && back[0].0 == "info", "{back:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_reached_is_told_of_as_a_whole() {
    let app = TestApp::start().await;
    let pager = alerts(&app).await;
    let breaker = json!({ "breaker": { "failures": 2, "cooldown": "100ms" } });
    app.endpoint("e", "http://127.0.0.1:1", breaker).await;
    app.mapping("all", "e", &["order:new"], json!({})).await;
    app.tell("order:new", json!({})).await;
    eventually("it is told", async || !told(&pager).is_empty()).await;
    let (key, payload) = told(&pager).remove(0);
    assert_eq!((key.as_str(), &payload["service"]), ("hub:endpoint_failing", &Value::Null));
    assert!(payload["error"].as_str().unwrap().starts_with("refused: "), "{payload}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_see_a_circuit_open_and_close_tell_it_once() {
    let endpoint = Scripted::start(|_| Reply::status(500).held()).await;
    let first = TestApp::start().await;
    let breaker = json!({ "concurrency": 4, "breaker": { "failures": 2, "cooldown": "1h" } });
    first.endpoint("e", &endpoint.url, breaker).await;
    first.mapping("all", "e", &["order:new"], json!({})).await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    for n in 0..8 {
        first.tell("order:new", json!({ "n": n })).await;
        second.tell("order:new", json!({ "n": n })).await;
    }
    // Each server has as many under way as open its own circuit, and both hear of it in the same moment.
    eventually("both have asked", async || endpoint.asked().len() == 8).await;
    endpoint.release();
    eventually("it is told", async || count(&first, "hub:endpoint_failing").await > 0).await;
    let mut db = first.connect().await;
    eventually("all ends are written", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM delivery_attempts").await >= 8
    })
    .await;
    first.server.run_until_idle().await.unwrap();
    second.server.run_until_idle().await.unwrap();
    let messages = "SELECT count(*) FROM hub_messages WHERE message = 'hub:endpoint_failing'";
    assert_eq!(ask::<i64>(&mut db, messages).await, 1);
    let occurrences = "SELECT sum(occurrences) FROM log_entries WHERE subject = 'An endpoint is failing'";
    assert_eq!(ask::<i64>(&mut db, occurrences).await, 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_told_once_while_it_stays_so() {
    let endpoint = Scripted::start(|_| Reply::status(410)).await;
    let app = TestApp::start().await;
    let pager = alerts(&app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("all", "e", &["order:new"], json!({})).await;
    app.tell("order:new", json!({})).await;
    eventually("it is asked again", async || endpoint.asked().len() > 3).await;
    eventually("it is told", async || keys(&pager) == ["hub:endpoint_gone"]).await;
    assert_eq!(told(&pager)[0].1["endpoint"], "e");
    assert_eq!(count(&app, "hub:endpoint_gone").await, 1);
    assert_eq!(entries(&app, "An endpoint is gone").await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_parked_is_told_as_a_child_of_its_message() {
    let endpoint = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    let pager = alerts(&app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    let once = json!({ "options": { "retries_allowed": false } });
    app.mapping("all", "e", &["order:new"], once).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "ERROR").await;
    eventually("it is told", async || keys(&pager) == ["hub:delivery_parked"]).await;
    let payload = told(&pager).remove(0).1;
    assert_eq!(payload["delivery"], message["deliveries"][0]["id"]);
    assert_eq!(payload["reason"], message["deliveries"][0]["last_error"]);
    let of = ["message", "message_id", "mapping", "endpoint"].map(|member| payload[member].clone());
    assert_eq!(of, [json!("order:new"), json!(id), json!("all"), json!("e")]);
    let message = app.told(&id).await;
    let child = message["children"][0].as_str().unwrap();
    let child = app.told(child).await;
    assert_eq!((&child["message"], &child["hop"]), (&json!("hub:delivery_parked"), &json!(1)), "{child}");
    assert_eq!(message["log_entries"][0]["subject"], "A delivery is parked", "{message}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_fail_make_no_alerts() {
    let pager = Scripted::start(|_| Reply::status(410)).await;
    let app = TestApp::start().await;
    let breaker = json!({ "breaker": { "failures": 1, "cooldown": "10ms" } });
    app.endpoint("pager", &pager.url, breaker).await;
    // One gives up, the other goes on, and a third answers at last.
    let once = json!({ "service": "once", "options": { "retries_allowed": false } });
    app.mapping("once", "pager", &["hub:*"], once).await;
    app.mapping("ever", "pager", &["hub:*"], json!({ "service": "ever" })).await;
    let broken = Scripted::start(|_| Reply::status(500)).await;
    app.endpoint("broken", &broken.url, json!({})).await;
    let parks = json!({ "options": { "retries_allowed": false } });
    app.mapping("parks", "broken", &["order:new"], parks).await;
    app.tell("order:new", json!({})).await;
    eventually("the alert is tried again and again", async || pager.asked().len() > 5).await;
    pager.follow(|asked| asked.acknowledge(json!({})));
    let mut db = app.connect().await;
    eventually("one is taken and the other given up", async || {
        let ended = "SELECT count(*) FROM deliveries WHERE status IN ('COMPLETE', 'ERROR')";
        ask::<i64>(&mut db, ended).await == 3
    })
    .await;
    app.server.run_until_idle().await.unwrap();
    let messages = "SELECT count(*) FROM hub_messages WHERE message LIKE 'hub:%'";
    assert_eq!(ask::<i64>(&mut db, messages).await, 1, "the one of the order");
    assert_eq!(app.log().await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_for_alerts_and_for_others_is_told_of_once_by_the_others() {
    let endpoint = Scripted::start(|_| Reply::status(500)).await;
    let app = TestApp::start().await;
    let breaker = json!({ "breaker": { "failures": 1, "cooldown": "50ms" } });
    app.endpoint("e", &endpoint.url, breaker).await;
    app.mapping("all", "e", &["order:new", "hub:*"], json!({})).await;
    app.tell("order:new", json!({})).await;
    eventually("it is tried again", async || endpoint.asked().len() > 6).await;
    assert_eq!(count(&app, "hub:endpoint_failing").await, 1);
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    eventually("that it is back is told", async || {
        endpoint.asked().iter().any(|asked| asked.json()["message"] == "hub:endpoint_recovered")
    })
    .await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(
        (count(&app, "hub:endpoint_failing").await, count(&app, "hub:endpoint_recovered").await),
        (1, 1)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poller_that_fails_three_times_in_a_row_is_told_once() {
    let app = TestApp::start().await;
    let pager = alerts(&app).await;
    let poller = json!({ "api": "http://127.0.0.1:1", "every": "1h" });
    json(app.put(&format!("{STORE}/pollers/shop"), &poller).await, 201).await;
    let mut db = app.connect().await;
    for run in 1..=5 {
        app.post(&format!("{STORE}/pollers/shop/run"), &Value::Null).await;
        eventually("it fails once more", async || {
            act(&mut db, "UPDATE scheduled SET run_at = now() WHERE lane IN (SELECT id FROM pollers)").await;
            ask::<i32>(&mut db, "SELECT failures FROM pollers").await >= run
        })
        .await;
    }
    eventually("it is told", async || keys(&pager) == ["hub:poller_failing"]).await;
    let payload = told(&pager).remove(0).1;
    assert_eq!((&payload["poller"], &payload["failures"]), (&json!("shop"), &json!(3)), "{payload}");
    assert_eq!(count(&app, "hub:poller_failing").await, 1);
    assert_eq!(entries(&app, "A poller is failing").await.len(), 1);
    app.stop().await;
}

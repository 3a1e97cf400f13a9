//! What holds deliveries back, parks them and lets them go: limits, lines, switches, breakers, rates, people.

use super::stage::STORE;
use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use postrider::internals::flow::Rate;
use postrider::internals::flow::rates;
use serde_json::{Value, json};
use std::time::Duration;

async fn started(endpoint: &Scripted, options: Value) -> TestApp {
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("m", "e", &["order:*"], json!({ "options": options })).await;
    app
}

/// Which messages were asked about, by the `n` of their payloads.
fn numbers(endpoint: &Scripted) -> Vec<i64> {
    endpoint.asked().iter().map(|asked| asked.json()["payload"]["n"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_park_and_a_person_lets_it_run_again() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let retry = json!({ "base": "5ms", "cap": "5ms" });
    let app = started(&endpoint, json!({ "max_attempts": 2, "retry": retry })).await;
    let id = app.tell("order:new", json!({})).await;
    let message = app.delivered(&id, "ERROR").await;
    let delivery = &message["deliveries"][0];
    assert_eq!(delivery["attempts"], 2);
    assert!(delivery["last_error"].as_str().unwrap().contains("after 2 attempts"), "{delivery}");
    let path = format!("{STORE}/deliveries/{}", delivery["id"].as_str().unwrap());
    json(app.post(&format!("{path}/archive"), &json!({})).await, 200).await;
    assert!(app.told(&id).await["deliveries"][0]["archived_at"].is_string());
    // Counted from the start: two more, and then it is delivered.
    endpoint.follow(|asked| if asked.before < 3 { Reply::status(500) } else { asked.acknowledge(json!({})) });
    json(app.post(&format!("{path}/retry"), &json!({})).await, 200).await;
    let message = app.delivered(&id, "COMPLETE").await;
    assert_eq!(message["deliveries"][0]["attempts"], 4);
    let numbers: Vec<Value> = app.attempts(&message).await.iter().map(|a| a["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_the_first_failure_parks_and_too_old_is_parked_too() {
    let endpoint =
        Scripted::start(|_: &Asked| Reply::Says(500, vec![("Retry-After", "60".to_owned())], String::new()))
            .await;
    let app = started(&endpoint, json!({ "retries_allowed": false })).await;
    let id = app.tell("order:new", json!({})).await;
    assert_eq!(app.delivered(&id, "ERROR").await["deliveries"][0]["attempts"], 1);
    app.mapping("m", "e", &["order:*"], json!({ "options": { "max_age": "1h" } })).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it has failed", async || app.told(&id).await["deliveries"][0]["attempts"] == 1).await;
    assert_eq!(app.told(&id).await["deliveries"][0]["status"], "PENDING");
    app.elapse(Duration::from_hours(1)).await;
    let message = app.delivered(&id, "ERROR").await;
    assert!(message["deliveries"][0]["last_error"].as_str().unwrap().contains("max_age"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_serial_mapping_everybody_waits_for_the_head() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let first = asked.json()["payload"]["n"] == 1;
        if first && asked.before < 3 { Reply::status(500) } else { asked.acknowledge(json!({})) }
    })
    .await;
    let retry = json!({ "base": "5ms", "cap": "5ms" });
    let app = started(&endpoint, json!({ "serial": true, "retry": retry })).await;
    let mut ids = Vec::new();
    for n in 1..=4 {
        ids.push(app.tell("order:new", json!({ "n": n })).await);
    }
    for id in &ids {
        app.delivered(id, "COMPLETE").await;
    }
    assert_eq!(numbers(&endpoint), [1, 1, 1, 1, 2, 3, 4]);
    // A head that is parked makes way; run again, it stands at the end.
    let options = json!({ "options": { "serial": true, "max_attempts": 1 } });
    app.mapping("m", "e", &["order:*"], options).await;
    endpoint.follow(|asked| match asked.json()["payload"]["n"].as_i64() {
        Some(5) if asked.before == 0 => Reply::status(500).held(),
        Some(6) => asked.acknowledge(json!({})).held(),
        _ => asked.acknowledge(json!({})),
    });
    let five = app.tell("order:new", json!({ "n": 5 })).await;
    let (six, seven) =
        (app.tell("order:new", json!({ "n": 6 })).await, app.tell("order:new", json!({ "n": 7 })).await);
    eventually("it is asked", async || endpoint.asked().len() == 8).await;
    endpoint.release_once();
    let parked = app.delivered(&five, "ERROR").await;
    eventually("the next is asked", async || endpoint.asked().len() == 9).await;
    let path = format!("{STORE}/deliveries/{}/retry", parked["deliveries"][0]["id"].as_str().unwrap());
    json(app.post(&path, &json!({})).await, 200).await;
    endpoint.release();
    for id in [&six, &seven, &five] {
        app.delivered(id, "COMPLETE").await;
    }
    assert_eq!(numbers(&endpoint)[7..], [5, 6, 7, 5]);
    let mut db = app.connect().await;
    assert_eq!(
        ask::<i64>(&mut db, "SELECT (SELECT count(*) FROM lines) + (SELECT count(*) FROM line_waits)").await,
        0
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_by_a_path_wait_only_within_themselves() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.json()["payload"]["order"].as_str() {
        Some("stuck") => Reply::status(500),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let retry = json!({ "base": "20ms", "cap": "20ms" });
    let app = started(&endpoint, json!({ "serial": "payload.order", "retry": retry })).await;
    app.tell("order:new", json!({ "order": "stuck", "n": 1 })).await;
    let behind = app.tell("order:new", json!({ "order": "stuck", "n": 2 })).await;
    let beside = app.tell("order:new", json!({ "order": "free", "n": 3 })).await;
    app.delivered(&beside, "COMPLETE").await;
    eventually("the head is tried again", async || {
        numbers(&endpoint).iter().filter(|n| **n == 1).count() > 2
    })
    .await;
    assert_eq!(app.told(&behind).await["deliveries"][0]["attempts"], 0);
    assert!(!numbers(&endpoint).contains(&2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_switched_off_holds_and_one_that_is_deleted_parks() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let app = started(&endpoint, super::stage::eager()).await;
    let failing = app.tell("order:new", json!({ "n": 1 })).await;
    eventually("it fails", async || endpoint.asked().len() > 2).await;
    app.mapping("m", "e", &["order:*"], json!({ "enabled": false })).await;
    let held = app.tell("order:new", json!({ "n": 2 })).await;
    let mut db = app.connect().await;
    eventually("both are held", async || {
        ask::<i64>(&mut db, "SELECT count(*) FROM held_deliveries").await == 2
    })
    .await;
    app.server.run_until_idle().await.unwrap();
    let asked = endpoint.asked().len();
    assert_eq!(app.told(&failing).await["deliveries"][0]["attempts"], asked);
    app.elapse(Duration::from_hours(2)).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(endpoint.asked().len(), asked);
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    app.mapping("m", "e", &["order:*"], json!({})).await;
    for id in [&failing, &held] {
        app.delivered(id, "COMPLETE").await;
    }
    endpoint.follow(|_| Reply::status(500));
    let id = app.tell("order:new", json!({ "n": 3 })).await;
    eventually("it fails", async || app.told(&id).await["deliveries"][0]["attempts"] != 0).await;
    app.delete(&format!("{STORE}/mappings/m")).await;
    let message = app.delivered(&id, "ERROR").await;
    assert_eq!(message["deliveries"][0]["last_error"], "the mapping was deleted");
    // What runs meanwhile comes to its end, and if that is a failure it is the last.
    app.mapping("m", "e", &["order:*"], json!({})).await;
    endpoint.follow(|_| Reply::status(500).held());
    let asked = endpoint.asked().len();
    let id = app.tell("order:new", json!({ "n": 4 })).await;
    eventually("it is asked", async || endpoint.asked().len() > asked).await;
    app.delete(&format!("{STORE}/mappings/m")).await;
    endpoint.release();
    let message = app.delivered(&id, "ERROR").await;
    assert_eq!(message["deliveries"][0]["attempts"], 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_moved_takes_its_deliveries_along() {
    let (broken, good) = (Scripted::start(|_: &Asked| Reply::status(500)).await, Scripted::agreeable().await);
    let app = started(&broken, super::stage::eager()).await;
    app.endpoint("good", &good.url, json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it fails", async || broken.asked().len() > 2).await;
    app.mapping("m", "good", &["order:*"], json!({})).await;
    let message = app.delivered(&id, "COMPLETE").await;
    assert_eq!(good.asked().len(), 1);
    assert_eq!(message["deliveries"][0]["attempts"], broken.asked().len() + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_lets_one_try_after_its_cooldown_and_counts_no_attempt_of_those_that_wait() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let app = started(&endpoint, super::stage::eager()).await;
    let breaker = json!({ "concurrency": 1, "breaker": { "failures": 3, "cooldown": "2s" } });
    app.endpoint("e", &endpoint.url, breaker).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(app.tell("order:new", json!({ "n": n })).await);
    }
    eventually("one has tried", async || endpoint.asked().len() >= 4).await;
    let times: Vec<_> = endpoint.asked().iter().map(|asked| asked.at).collect();
    assert!(times[3] - times[2] >= Duration::from_millis(1900), "{:?}", times[3] - times[2]);
    let mut db = app.connect().await;
    eventually("everybody knows", async || {
        ask::<bool>(&mut db, "SELECT EXISTS (SELECT FROM circuit_parts WHERE failures >= 3)").await
    })
    .await;
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    for id in &ids {
        app.delivered(id, "COMPLETE").await;
    }
    assert!(ask::<bool>(&mut db, "SELECT NOT EXISTS (SELECT FROM circuit_parts)").await);
    let attempts = "SELECT count(*) FROM delivery_attempts";
    assert_eq!(ask::<i64>(&mut db, attempts).await, i64::try_from(endpoint.asked().len()).unwrap());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_says_it_is_gone_is_marked_until_it_is_back() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0 | 1 => Reply::status(410),
        2 => Reply::status(500).held(),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = started(&endpoint, super::stage::eager()).await;
    let id = app.tell("order:new", json!({})).await;
    eventually("it is asked again", async || endpoint.asked().len() == 3).await;
    let mut db = app.connect().await;
    assert!(ask::<bool>(&mut db, "SELECT gone_at IS NOT NULL FROM circuits").await);
    let log = app.log().await;
    assert_eq!((log.len(), log[0].0.as_str()), (1, "error"), "{log:?}");
    endpoint.release();
    app.delivered(&id, "COMPLETE").await;
    assert!(ask::<bool>(&mut db, "SELECT gone_at IS NULL FROM circuits").await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_spaces_requests_and_costs_no_attempt() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, super::stage::eager()).await;
    app.endpoint("e", &endpoint.url, json!({ "rate": { "per_second": 10, "burst": 2 } })).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(app.tell("order:new", json!({ "n": n })).await);
    }
    for id in &ids {
        assert_eq!(app.delivered(id, "COMPLETE").await["deliveries"][0]["attempts"], 1);
    }
    let mut times: Vec<_> = endpoint.asked().iter().map(|asked| asked.at).collect();
    times.sort_unstable();
    // Two at once, and a tenth of a second for each of the others.
    let took = times[7] - times[0];
    assert!(took >= Duration::from_millis(500), "{took:?}");
    // One that would wait too long goes back, and is not lost.
    app.endpoint("e", &endpoint.url, json!({ "rate": { "per_second": 0.01, "burst": 1 } })).await;
    let (first, second) =
        (app.tell("order:new", json!({ "n": 8 })).await, app.tell("order:new", json!({ "n": 9 })).await);
    let mut db = app.connect().await;
    sqlx::Executor::execute(&mut db, "UPDATE rates SET due_at = now()").await.unwrap();
    eventually("one has left", async || numbers(&endpoint).len() == 9).await;
    let waiting = if numbers(&endpoint)[8] == 8 { second } else { first };
    assert_eq!(app.told(&waiting).await["deliveries"][0]["attempts"], 0);
    app.server.stop_within(Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_does_not_wait_for_slots_that_are_being_reserved() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, super::stage::eager()).await;
    let rate = json!({ "rate": { "per_second": 1000, "burst": 1000 } });
    app.endpoint("e", &endpoint.url, rate).await;
    let first = app.tell("order:new", json!({})).await;
    app.delivered(&first, "COMPLETE").await;
    let mut db = app.connect().await;
    let lane: i32 = ask(&mut db, "SELECT id FROM endpoints").await;
    let rate = Rate { per_second: 1000.0, burst: 1000 };
    let mut reserving = sqlx::Connection::begin(&mut db).await.unwrap();
    assert_eq!(rates::take(&mut *reserving, lane, rate, 5).await.unwrap().unwrap().granted, 5);
    let second = app.tell("order:new", json!({})).await;
    reserving.rollback().await.unwrap();
    app.delivered(&second, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_publishes_is_routed_and_delivered() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, super::stage::eager()).await;
    let mut db = app.connect().await;
    let id = ask::<String>(&mut db, "SELECT publish('s1', 'order:new', '{\"n\": 7}')::text").await;
    assert_eq!(app.delivered(&id, "COMPLETE").await["state"], "routed");
    assert_eq!(numbers(&endpoint), [7]);
    app.stop().await;
}

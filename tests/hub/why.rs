//! Why a delivery is not running: each cause is made, and named, and what is said to be done about it helps.

use super::stage::STORE;
use crate::queues::why::{causes, reason};
use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::free_address;
use crate::support::reads::rows_read;
use crate::support::scripted::{Asked, Reply, Scripted};
use axum::http::Method;
use postrider::internals::hub::why as of_hub;
use postrider::internals::worker::store::why as of_engine;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// Failures that are tried again in an hour.
fn patient() -> Value {
    json!({ "options": { "retry": { "base": "1h", "cap": "1h" } } })
}

/// An instance with the endpoint `e` and the mapping `m` of orders to it.
async fn started(endpoint: &Scripted, of_endpoint: Value, of_mapping: Value) -> TestApp {
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, of_endpoint).await;
    app.mapping("m", "e", &["order:*"], of_mapping).await;
    app
}

/// Pushes a message; returns its delivery.
async fn delivery(app: &TestApp, payload: Value) -> String {
    let id = app.tell("order:new", payload).await;
    app.told(&id).await["deliveries"][0]["id"].as_str().unwrap().to_owned()
}

async fn why(app: &TestApp, delivery: &str) -> Value {
    json(app.get(&format!("{STORE}/deliveries/{delivery}/why")).await, 200).await
}

/// Waits until these causes are named, and no others; returns what is said.
async fn until(app: &TestApp, delivery: &str, wanted: &[&str]) -> Value {
    let mut said = Value::Null;
    eventually(&format!("{wanted:?} are named"), async || {
        said = why(app, delivery).await;
        causes(&said) == wanted
    })
    .await;
    said
}

async fn act(db: &mut PgConnection, statement: &str) {
    db.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_is_named_and_a_finished_one_has_no_reasons() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, json!({ "enabled": false }), json!({ "enabled": false })).await;
    let id = delivery(&app, json!({})).await;
    let said = why(&app, &id).await;
    assert_eq!(causes(&said), ["mapping_disabled", "endpoint_disabled"]);
    assert_eq!((&said["kind"], &said["status"]), (&json!("delivery"), &json!("PENDING")));
    let (mapping, endpoint_off) = (reason(&said, "mapping_disabled"), reason(&said, "endpoint_disabled"));
    assert_eq!((&mapping["of"], &mapping["see"]), (&json!("m"), &json!(format!("{STORE}/mappings/m"))));
    assert_eq!((&endpoint_off["of"], &endpoint_off["fault"]), (&json!("e"), &json!(true)));
    assert!(mapping["since"].is_string() && endpoint_off["since"].is_string());
    app.mapping("m", "e", &["order:*"], json!({})).await;
    until(&app, &id, &["endpoint_disabled"]).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    let said = until(&app, &id, &[]).await;
    assert_eq!(said["status"], "COMPLETE");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_says_when_it_is_tried_again_and_what_the_error_was() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let app = started(&endpoint, json!({}), patient()).await;
    let id = delivery(&app, json!({})).await;
    let said = until(&app, &id, &["backoff"]).await;
    let backoff = reason(&said, "backoff");
    assert_eq!((&backoff["attempt"], &backoff["fault"]), (&json!(1), &json!(false)));
    assert!(backoff["error"].as_str().unwrap().contains("500"), "{backoff}");
    assert!(backoff["until"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_may_not_be_asked_is_named() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, json!({}), patient()).await;
    // It was allowed when it was put.
    let mut db = app.connect().await;
    let elsewhere = json!({ "url": "http://10.0.0.1:9", "breaker": { "failures": 1000, "cooldown": "1s" } });
    act(&mut db, &format!("UPDATE endpoints SET definition = '{elsewhere}', version = (SELECT revision + 1 FROM catalog); UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider")).await;
    let id = delivery(&app, json!({})).await;
    let said = until(&app, &id, &["address_not_allowed", "backoff"]).await;
    let refused = reason(&said, "address_not_allowed");
    assert_eq!((&refused["of"], &refused["fault"]), (&json!("e"), &json!(true)), "{refused}");
    assert!(refused["do"].as_str().unwrap().contains("POSTRIDER_ALLOW_NETWORKS"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_is_named_whether_the_service_fails_or_the_server_is_away() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let breaker = json!({ "breaker": { "failures": 1, "cooldown": "1h" } });
    let app = started(&endpoint, breaker.clone(), patient()).await;
    let first = delivery(&app, json!({})).await;
    until(&app, &first, &["circuit_open", "backoff"]).await;
    let second = delivery(&app, json!({})).await;
    let said = until(&app, &second, &["circuit_open"]).await;
    let open = reason(&said, "circuit_open");
    assert_eq!((&open["of"], &open["fault"]), (&json!("e/take"), &json!(true)));
    assert!(open["until"].is_string());
    // What it says helps: the endpoint put again is tried at once.
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    app.endpoint("e", &endpoint.url, breaker.clone()).await;
    until(&app, &second, &[]).await;

    app.endpoint("away", &format!("http://{}", free_address()), breaker).await;
    app.mapping("m", "away", &["order:*"], patient()).await;
    let id = delivery(&app, json!({})).await;
    let said = until(&app, &id, &["circuit_open", "backoff"]).await;
    assert_eq!(reason(&said, "circuit_open")["of"], "away");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_delivery_tries_a_service_the_others_say_so() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let app = started(&endpoint, json!({ "breaker": { "failures": 1, "cooldown": "1s" } }), patient()).await;
    let first = delivery(&app, json!({})).await;
    eventually("it fails", async || endpoint.asked().len() == 1).await;
    endpoint.follow(|asked| asked.acknowledge(json!({})).held());
    let second = delivery(&app, json!({})).await;
    eventually("one tries", async || endpoint.asked().len() == 2).await;
    let third = delivery(&app, json!({})).await;
    let said = until(&app, &third, &["service_probing"]).await;
    let probing = reason(&said, "service_probing");
    assert_eq!((&probing["of"], &probing["behind"]), (&json!("e/take"), &json!(second)));
    assert_eq!(causes(&why(&app, &second).await), ["running"]);
    assert!(causes(&why(&app, &first).await).contains(&"backoff"));
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    endpoint.release();
    until(&app, &third, &[]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_says_when_the_next_one_goes() {
    let endpoint = Scripted::agreeable().await;
    let rate = json!({ "rate": { "per_second": 0.01, "burst": 1 } });
    let app = started(&endpoint, rate, json!({})).await;
    let (first, second) = (delivery(&app, json!({})).await, delivery(&app, json!({})).await);
    let mut waiting = Vec::new();
    eventually("one has left", async || {
        waiting.clear();
        for id in [&first, &second] {
            if why(&app, id).await["status"] != "COMPLETE" {
                waiting.push(id.clone());
            }
        }
        waiting.len() == 1
    })
    .await;
    let waiting = waiting.remove(0);
    let said = until(&app, &waiting, &["rate_limit"]).await;
    let limit = reason(&said, "rate_limit");
    assert_eq!((&limit["of"], &limit["fault"]), (&json!("e"), &json!(false)));
    assert!(limit["until"].as_str().unwrap() > said["at"].as_str().unwrap(), "{said}");
    app.server.stop_within(std::time::Duration::from_millis(100)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_names_its_head_and_what_holds_that_one() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let serial = json!({ "options": { "serial": true, "retry": { "base": "1h", "cap": "1h" } } });
    let app = started(&endpoint, json!({}), serial).await;
    let (head, second, third) =
        (delivery(&app, json!({})).await, delivery(&app, json!({})).await, delivery(&app, json!({})).await);
    until(&app, &head, &["backoff"]).await;
    let said = why(&app, &third).await;
    assert_eq!(causes(&said), ["line"]);
    let line = reason(&said, "line");
    assert_eq!(
        (&line["behind"], &line["count"], &line["behind_causes"]),
        (&json!(head), &json!(2), &json!(["backoff"]))
    );
    assert!(line["detail"].as_str().unwrap().contains("500"), "{line}");
    assert_eq!(reason(&why(&app, &second).await, "line")["count"], 1);
    assert_eq!(causes(&json(app.get(line["see"].as_str().unwrap()).await, 200).await), ["backoff"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_the_endpoint_takes_at_once_are_named_with_who_is_before() {
    let endpoint = Scripted::start(|asked: &Asked| asked.acknowledge(json!({})).held()).await;
    let app = started(&endpoint, json!({ "concurrency": 1 }), json!({})).await;
    let first = delivery(&app, json!({})).await;
    eventually("it is asked", async || endpoint.asked().len() == 1).await;
    let (second, third) = (delivery(&app, json!({})).await, delivery(&app, json!({})).await);
    let said = why(&app, &third).await;
    assert_eq!(causes(&said), ["places_taken", "earlier"]);
    let places = reason(&said, "places_taken");
    assert_eq!((&places["holders"][0]["item"], &places["count"]), (&json!(first), &json!(1)));
    assert!(places["since"].is_string() && places["holders"][0]["by"].is_string());
    assert_eq!(reason(&said, "earlier")["count"], 1);
    assert_eq!(causes(&why(&app, &second).await), ["places_taken"]);
    let said = why(&app, &first).await;
    assert_eq!((causes(&said), &said["status"]), (vec!["running"], &json!("INPROGRESS")));
    endpoint.follow(|asked| asked.acknowledge(json!({})));
    endpoint.release();
    until(&app, &third, &[]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_endpoint_put_off_itself_says_for_what() {
    let endpoint = Scripted::start(|asked: &Asked| {
        let later = json!({ "delay": 3600, "update_url": "/status/7" });
        asked.acknowledge(if asked.json()["payload"]["n"] == 1 { later } else { json!({ "delay": 3600 }) })
    })
    .await;
    let app = started(&endpoint, json!({}), json!({})).await;
    for (n, cause) in [(1, "answer_awaited"), (2, "put_off")] {
        let id = delivery(&app, json!({ "n": n })).await;
        let said = until(&app, &id, &[cause]).await;
        assert!(reason(&said, cause)["until"].is_string(), "{said}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_parked_says_by_which_rule_until_it_is_archived() {
    let endpoint = Scripted::start(|_: &Asked| Reply::status(500)).await;
    let app = started(&endpoint, json!({}), json!({ "options": { "retries_allowed": false } })).await;
    let id = delivery(&app, json!({})).await;
    let said = until(&app, &id, &["parked"]).await;
    let parked = reason(&said, "parked");
    assert_eq!((&said["status"], &parked["rule"]), (&json!("ERROR"), &json!("retries_not_allowed")));
    assert!(parked["error"].as_str().unwrap().contains("500") && parked["since"].is_string(), "{parked}");
    let archive = format!("{STORE}/deliveries/{id}/archive");
    assert!(parked["do"].as_str().unwrap().contains(&archive), "{parked}");
    json(app.post(&archive, &json!({})).await, 200).await;
    assert_eq!(causes(&why(&app, &id).await), [""; 0]);

    let options = json!({ "options": { "max_attempts": 2, "retry": { "base": "1ms", "cap": "1ms" } } });
    app.mapping("m", "e", &["order:*"], options).await;
    let id = delivery(&app, json!({})).await;
    assert_eq!(reason(&until(&app, &id, &["parked"]).await, "parked")["rule"], "max_attempts");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_the_delivery_may_ask_and_nobody_else() {
    let endpoint = Scripted::agreeable().await;
    let app = started(&endpoint, json!({}), json!({ "enabled": false })).await;
    let id = delivery(&app, json!({})).await;
    let path = format!("{STORE}/deliveries/{id}/why");
    let ask = async |role: &str, path: &str| app.request_as(&[role], Method::GET, path).send().await.unwrap();
    for role in ["hub_reader", "s1_hub_reader", "hub_admin"] {
        json(ask(role, &path).await, 200).await;
    }
    for role in ["s2_hub_reader", "queue_admin"] {
        refusal(ask(role, &path).await, 403).await;
    }
    app.put("/stores/s2/parameters/p", &json!({ "value": "1", "data_type": "string" })).await;
    for path in [
        format!("/stores/s2/deliveries/{id}/why"),
        format!("{STORE}/deliveries/{}/why", Uuid::now_v7()),
        format!("{STORE}/deliveries/no-id/why"),
    ] {
        refusal(app.get(&path).await, 404).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_cost_the_same_however_many_deliveries_wait() {
    const WAITING: i64 = 50_000;
    let endpoint = Scripted::agreeable().await;
    let serial = json!({ "options": { "serial": true } });
    let app = started(&endpoint, json!({ "enabled": false }), serial).await;
    let last = delivery(&app, json!({})).await;
    let mut db = app.connect().await;
    let fill = format!(
        "INSERT INTO deliveries (store_id, mapping_id, id, message_id)
        SELECT store_id, mapping_id, uuid_v7(date_trunc('week', now()) + n * interval '1 ms'), message_id
        FROM deliveries, generate_series(1, {WAITING}) AS n;
        INSERT INTO dispatch (lane, rank, item) SELECT m.endpoint_id, 0, d.id FROM deliveries AS d JOIN mappings AS m ON m.id = d.mapping_id;
        INSERT INTO line_waits (series, line, item) SELECT series, line, gen_random_uuid() FROM lines, generate_series(1, {WAITING});
        INSERT INTO line_waits (series, line, item) SELECT series, line, '{last}' FROM lines;
        UPDATE lines SET head = '{}'",
        Uuid::now_v7()
    );
    act(&mut db, &fill).await;
    let id: Uuid = last.parse().unwrap();
    let (store, lane): (i32, i32) = sqlx::query_as(
        "SELECT d.store_id, m.endpoint_id FROM deliveries AS d JOIN mappings AS m ON m.id = d.mapping_id WHERE d.id = $1",
    )
    .bind(id)
    .fetch_one(&mut db)
    .await
    .unwrap();
    act(&mut db, "BEGIN").await;
    of_engine::begin(&mut db).await.unwrap();
    let before = rows_read(&mut db).await;
    of_hub::row(&mut db, store, id).await.unwrap().unwrap();
    let lanes = of_hub::lanes(&mut db, store).await.unwrap();
    assert!(of_engine::held(&mut db, &lanes, id).await.unwrap().is_empty());
    assert!(of_hub::last_attempt(&mut db, id).await.unwrap().is_none());
    assert!(of_hub::service(&mut db, lane, "take").await.unwrap().is_none());
    assert_eq!(of_hub::taken(&mut db, lane).await.unwrap().count, 0);
    let read = rows_read(&mut db).await - before;
    assert!(read < 100, "{read} rows for all but order and line");
    assert_eq!(of_hub::in_line(&mut db, id).await.unwrap().unwrap().before, of_engine::LOOKED_AT + 1);
    let of_line = rows_read(&mut db).await - before - read;
    assert!(of_line <= of_engine::LOOKED_AT + 10, "{of_line} rows for the line");
    act(&mut db, "ROLLBACK").await;
    let said = why(&app, &last).await;
    let waits = reason(&said, "line");
    assert_eq!((&waits["or_more"], &waits["count"]), (&json!(true), &json!(of_engine::LOOKED_AT + 1)));
    app.stop().await;
}

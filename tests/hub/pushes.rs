//! What a push into a store costs, whom it waits for, and what it knows of definitions that change meanwhile.

use super::stage::STORE;
use crate::engine::ask;
use crate::support::answer::{json, refusal, text};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::Scripted;
use crate::support::tap::Tap;
use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use std::time::{Duration, Instant};

/// Far less than a push waits for a held key, and far more than one takes that waits for nobody.
const SOON: Duration = Duration::from_secs(3);

async fn push(app: &TestApp, key: Option<&str>, payload: Value) -> reqwest::Response {
    let mut request = app.request(Method::POST, &format!("{STORE}/messages"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.json(&json!({ "message": "order:new", "payload": payload })).send().await.unwrap()
}

/// The fewest round trips of several pushes of one kind: that of a new connection, and of one that lay idle, has more.
async fn round_trips(app: &TestApp, tap: &Tap, key: impl Fn(usize) -> Option<String>, status: u16) -> usize {
    let mut fewest = usize::MAX;
    for n in 0..20 {
        let before = tap.round_trips();
        text(push(app, key(n).as_deref(), json!({ "n": n })).await, status).await;
        fewest = fewest.min(tap.round_trips() - before);
    }
    fewest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_one_round_trip_whatever_its_mappings_want() {
    let database = database().await;
    let tap = Tap::before(&database).await;
    let app = TestApp::on(tap.of(&database), &[], |app| app).await;
    app.endpoint("off", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    let fresh = |n: usize| Some(format!("key {n}"));
    assert_eq!(round_trips(&app, &tap, |_| None, 201).await, 1, "wanted by none");
    app.mapping("plain", "off", &["order:*"], json!({})).await;
    assert_eq!(round_trips(&app, &tap, |_| None, 201).await, 1, "wanted by one");
    app.mapping("once", "off", &["order:*"], json!({ "identifiers": { "n": "payload.n" } })).await;
    app.mapping("held", "off", &["order:*"], json!({ "enabled": false })).await;
    app.mapping("line", "off", &["order:*"], json!({ "options": { "serial": true } })).await;
    assert_eq!(round_trips(&app, &tap, fresh, 201).await, 1, "wanted by four, with a key");
    assert_eq!(round_trips(&app, &tap, |_| None, 201).await, 1, "a duplicate for one of them");
    // The statement finds the key used; another says what it made.
    let mut db = app.connect().await;
    db.execute("DELETE FROM hub_idempotency_keys").await.unwrap();
    text(push(&app, Some("k"), json!({ "n": 0 })).await, 201).await;
    let mut fewest = usize::MAX;
    for _ in 0..20 {
        let before = tap.round_trips();
        text(push(&app, Some("k"), json!({ "n": 0 })).await, 200).await;
        fewest = fewest.min(tap.round_trips() - before);
    }
    assert_eq!(fewest, 2, "again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_with_other_keys_do_not_wait_for_a_transaction_that_uses_one() {
    let app = TestApp::start().await;
    app.tell("order:new", json!({})).await;
    let mut db = app.connect().await;
    db.execute(
        "BEGIN; INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id)
         SELECT id, key, '', uuid_v7() FROM stores, (VALUES ('A'), ('B')) AS k (key)",
    )
    .await
    .unwrap();
    // Those with the held keys come first, and are more than there are connections.
    let held = join_all((0..30).map(|n| push(&app, Some(if n % 2 == 0 { "A" } else { "B" }), json!({}))));
    let others = async {
        for round in 0..20 {
            let started = Instant::now();
            let keys: Vec<String> = (0..10).map(|n| format!("{round} {n}")).collect();
            let with_keys = join_all(keys.iter().map(|key| push(&app, Some(key), json!({}))));
            let without = join_all((0..10).map(|_| push(&app, None, json!({}))));
            let (with_keys, without) = futures::join!(with_keys, without);
            for answer in with_keys.into_iter().chain(without) {
                text(answer, 201).await;
            }
            assert!(started.elapsed() < SOON, "round {round} took {:?}", started.elapsed());
        }
        db.execute("ROLLBACK").await.unwrap();
    };
    let (held, ()) = futures::join!(held, others);
    let mut statuses: Vec<u16> = held.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 28].as_slice(), &[201; 2]].concat());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_a_held_key_is_refused_after_a_while() {
    let app = TestApp::start().await;
    app.tell("order:new", json!({})).await;
    let mut db = app.connect().await;
    db.execute(
        "BEGIN; INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id)
         SELECT id, 'A', '', uuid_v7() FROM stores",
    )
    .await
    .unwrap();
    let refused = push(&app, Some("A"), json!({})).await;
    assert!(refused.headers().contains_key("retry-after"));
    let problem = refusal(refused, 503).await;
    assert!(problem["detail"].as_str().unwrap().contains("idempotency key"), "{problem}");
    assert_eq!(ask::<i64>(&mut app.connect().await, "SELECT count(*) FROM hub_messages").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_for_its_key_is_routed_by_what_is_defined_when_it_is_stored() {
    let new = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("old", "http://127.0.0.1:9", json!({ "enabled": false })).await;
    app.endpoint("new", &new.url, json!({})).await;
    app.mapping("goes", "old", &["order:*"], json!({})).await;
    app.mapping("moves", "old", &["order:*"], json!({})).await;
    app.tell("product:new", json!({})).await;

    let mut other = app.connect().await;
    let mut held = other.begin().await.unwrap();
    held.execute(
        "INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id)
         SELECT id, 'A', '', uuid_v7() FROM stores",
    )
    .await
    .unwrap();
    let changes = async {
        app.waits_for_a_lock("WITH found AS").await;
        app.mapping("moves", "new", &["order:*"], json!({})).await;
        assert_eq!(app.delete(&format!("{STORE}/mappings/goes")).await.status(), 204);
        assert_eq!(app.delete(&format!("{STORE}/endpoints/old")).await.status(), 204);
        held.rollback().await.unwrap();
    };
    let (pushed, ()) = tokio::join!(push(&app, Some("A"), json!({})), changes);
    let id = json(pushed, 201).await["message_id"].as_str().unwrap().to_owned();
    let message = app.delivered(&id, "COMPLETE").await;
    let deliveries = message["deliveries"].as_array().unwrap();
    assert_eq!((deliveries.len(), &deliveries[0]["mapping"]), (1, &json!("moves")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_know_of_a_new_mapping_yet_routes_to_it() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    for n in 0..20 {
        app.mapping(&format!("m{n}"), "e", &["order:*"], json!({})).await;
        // Before or after it heard of it, whatever the race.
        let id = other.tell("order:new", json!({})).await;
        assert_eq!(app.told(&id).await["deliveries"].as_array().unwrap().len(), n + 1);
    }
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_made_by_pushes_that_come_at_the_same_time() {
    let app = TestApp::start().await;
    for round in 0..5 {
        let path = format!("/stores/new{round}/messages");
        let body = json!({ "message": "order:new" });
        for answer in join_all((0..20).map(|_| app.post(&path, &body))).await {
            json(answer, 201).await;
        }
    }
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM stores").await, 5);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM hub_messages").await, 100);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_the_switch_of_a_mapping_and_goes_by_it() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    for line in [false, true] {
        let name = format!("m{line}");
        let mapping = |enabled: bool| json!({ "enabled": enabled, "options": { "serial": line } });
        app.mapping(&name, "e", &["order:*"], mapping(false)).await;
        // As another process switches it on: this one does not know yet.
        let mut other = app.connect().await;
        let mut held = other.begin().await.unwrap();
        held.execute(
            "UPDATE catalog SET revision = revision + 1;
             UPDATE mappings SET enabled = true, version = revision FROM catalog WHERE NOT enabled",
        )
        .await
        .unwrap();
        let switch = async {
            app.waits_for_a_lock("WITH found AS").await;
            held.commit().await.unwrap();
        };
        let (id, ()) = tokio::join!(app.tell("order:new", json!({})), switch);
        eventually("nothing of it waits", async || {
            let message = app.told(&id).await;
            message["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["status"] == "COMPLETE")
        })
        .await;
        assert_eq!(app.delete(&format!("{STORE}/mappings/{name}")).await.status(), 204);
    }
    app.stop().await;
}

//! Routing: which mappings a message goes to, what is a duplicate, and what waits for what.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::{TestApp, database};
use futures::future::join_all;
use postrider::internals::db::Database;
use postrider::internals::hub::Catalog;
use postrider::internals::hub::decide;
use postrider::internals::hub::{Draft, MAX_HOPS, State};
use postrider::internals::worker::store as engine;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::Row as _;
use std::time::Duration;

/// A store with an endpoint that is switched off: deliveries to it wait.
async fn store() -> TestApp {
    let app = TestApp::start().await;
    app.endpoint("off", "http://127.0.0.1:9/hub", json!({ "enabled": false })).await;
    app
}

/// Mapping and status of each delivery of a message.
fn deliveries(message: &Value) -> Vec<(&str, &str)> {
    let deliveries = message["deliveries"].as_array().unwrap().iter();
    deliveries
        .map(|delivery| (delivery["mapping"].as_str().unwrap(), delivery["status"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_every_mapping_that_wants_its_key() {
    let app = store().await;
    app.mapping("all", "off", &["order:*", "product:new"], json!({})).await;
    app.mapping("one", "off", &["order:new"], json!({})).await;
    app.mapping("other", "off", &["shipment:*"], json!({})).await;
    for (key, wanted) in [
        ("order:new", vec!["all", "one"]),
        ("order:new:late", vec!["all"]),
        ("product:new", vec!["all"]),
        ("product:update", vec![]),
        ("orders:new", vec![]),
    ] {
        let stored =
            json(app.post(&format!("{STORE}/messages"), &json!({ "message": key })).await, 201).await;
        let message = app.told(stored["message_id"].as_str().unwrap()).await;
        let found: Vec<(&str, &str)> = wanted.iter().map(|name| (*name, "PENDING")).collect();
        assert_eq!(deliveries(&message), found, "{key}");
        let state = if wanted.is_empty() { "unrouted" } else { "routed" };
        assert_eq!((&stored["state"], &message["state"]), (&json!(state), &json!(state)), "{key}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_look_at_key_id_and_payload() {
    let app = store().await;
    let filters = json!([
        { "path": "payload.order.total", "operator": "gt", "value": 10 },
        { "path": "payload.order.items.*.sku", "operator": "eq", "value": "a" },
        { "path": "message", "operator": "neq", "value": "order:cancel" },
    ]);
    app.mapping("big", "off", &["order:*"], json!({ "filters": filters })).await;
    for (key, order, wanted) in [
        ("order:new", json!({ "total": "19.99", "items": [{ "sku": "b" }, { "sku": "a" }] }), true),
        ("order:new", json!({ "total": 10, "items": [{ "sku": "a" }] }), false),
        ("order:new", json!({ "items": [{ "sku": "a" }] }), false),
        ("order:new", json!({ "total": 11, "items": [{ "sku": "b" }] }), false),
        ("order:cancel", json!({ "total": 11, "items": [{ "sku": "a" }] }), false),
    ] {
        let id = app.tell(key, json!({ "order": order })).await;
        assert_eq!(!deliveries(&app.told(&id).await).is_empty(), wanted, "{key} {order}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identifiers_go_to_a_mapping_once() {
    let app = store().await;
    let identifiers = json!({ "identifiers": { "number": "payload.number" } });
    app.mapping("once", "off", &["order:*"], identifiers.clone()).await;
    app.mapping("twice", "off", &["order:*"], json!({})).await;
    let first = app.tell("order:new", json!({ "number": "R1" })).await;
    let again = app.tell("order:update", json!({ "number": "R1", "more": 1 })).await;
    let first = app.told(&first).await;
    let message = app.told(&again).await;
    assert_eq!(deliveries(&message), [("once", "SKIPPED"), ("twice", "PENDING")]);
    assert_eq!(message["state"], "routed");
    let reason = format!("duplicate of delivery {}", first["deliveries"][0]["id"].as_str().unwrap());
    assert_eq!(message["deliveries"][0]["last_error"], reason);
    assert!(message["deliveries"][0]["finished_at"].is_string());
    // Another value is another message, and one without a value is like no other.
    for payload in [json!({ "number": "R2" }), json!({}), json!({}), json!({ "number": null })] {
        let id = app.tell("order:new", payload.clone()).await;
        assert_eq!(deliveries(&app.told(&id).await)[0], ("once", "PENDING"), "{payload}");
    }
    // A mapping that is made again has been sent nothing.
    assert_eq!(app.delete(&format!("{STORE}/mappings/once")).await.status(), 204);
    app.mapping("once", "off", &["order:*"], identifiers).await;
    let id = app.tell("order:new", json!({ "number": "R1" })).await;
    assert_eq!(deliveries(&app.told(&id).await)[0], ("once", "PENDING"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_pushes_at_once_with_the_same_identifiers_one_is_delivered() {
    let app = store().await;
    for name in ["a", "b", "c"] {
        let members = json!({ "identifiers": { "n": "payload.n" }, "options": { "serial": "payload.line" } });
        app.mapping(name, "off", &["order:*"], members).await;
    }
    let pushes = (0..60).map(|n| app.tell("order:new", json!({ "n": n % 3, "line": n % 2 })));
    join_all(pushes).await;
    let mut db = app.connect().await;
    let counts = "SELECT status::text, count(*) FROM deliveries GROUP BY 1 ORDER BY 1";
    let counts: Vec<(String, i64)> = sqlx::query(counts)
        .fetch_all(&mut db)
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(counts, [("PENDING".to_owned(), 9), ("SKIPPED".to_owned(), 171)]);
    // Whatever came in which order: a head in dispatch for each line, and everybody else behind it.
    let places = "SELECT (SELECT count(*) FROM lines), (SELECT count(*) FROM line_waits),
        (SELECT count(*) FROM dispatch JOIN lines ON head = item)";
    let row = sqlx::query(places).fetch_one(&mut db).await.unwrap();
    let (lines, waits, heads): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(lines == heads && lines + waits == 9 && lines >= 3, "{lines} lines, {heads} heads, {waits} wait");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_line_stand_one_behind_the_other() {
    let app = store().await;
    app.mapping("line", "off", &["order:*"], json!({ "options": { "serial": "payload.number" } })).await;
    let mut ids = Vec::new();
    for number in ["R1", "R2", "R1", "R1"] {
        let id = app.tell("order:update", json!({ "number": number })).await;
        ids.push(app.told(&id).await["deliveries"][0]["id"].as_str().unwrap().to_owned());
    }
    let mut db = app.connect().await;
    let list = async |db: &mut sqlx::PgConnection, statement: &'static str| -> Vec<String> {
        sqlx::query(statement).fetch_all(db).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let ready = list(&mut db, "SELECT item::text FROM dispatch ORDER BY seq").await;
    assert_eq!(ready, [ids[0].clone(), ids[1].clone()]);
    let waits = list(&mut db, "SELECT item::text FROM line_waits ORDER BY seq").await;
    assert_eq!(waits, [ids[2].clone(), ids[3].clone()]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_another_process_made_a_moment_ago_is_routed_to() {
    let app = store().await;
    let other = TestApp::on(app.database.clone(), &[], |app| app).await;
    for round in 0..10 {
        app.mapping(&format!("m{round}"), "off", &["order:new"], json!({})).await;
        let id = other.tell("order:new", json!({})).await;
        assert_eq!(deliveries(&other.told(&id).await).len(), round + 1);
    }
    assert_eq!(app.delete(&format!("{STORE}/mappings/m0")).await.status(), 204);
    let id = other.tell("order:new", json!({})).await;
    assert_eq!(deliveries(&other.told(&id).await).len(), 9);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sql_publishes_is_routed_with_its_commit() {
    let app = store().await;
    app.mapping("all", "off", &["order:*"], json!({})).await;
    let mut db = app.connect().await;
    let publish = "SELECT publish('s1', 'order:new', '{\"n\": 1}')::text";
    let id: String = sqlx::query(publish).fetch_one(&mut db).await.unwrap().get(0);
    crate::support::eventually("it is routed", async || app.told(&id).await["state"] == "routed").await;
    assert_eq!(deliveries(&app.told(&id).await), [("all", "PENDING")]);
    app.stop().await;
}

fn draft(db: &Database, store_id: i32, key: &str, payload: &str) -> Draft {
    Draft {
        id: db.ids.next(),
        store_id,
        key: key.to_owned(),
        payload: RawValue::from_string(payload.to_owned()).unwrap(),
        parent: None,
        hop: 0,
        root: None,
        visits: Vec::new(),
        held_back: None,
        delay: Duration::ZERO,
        parked: None,
        trace: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_routed_is_parked_and_what_is_to_wait_waits() {
    let options = database().await;
    let db = Database::new(&options, "postrider");
    db.check().await.unwrap();
    let mut tx = db.api.acquire().await.unwrap();
    let store_id = postrider::internals::hub::ensure(&mut tx, "s1").await.unwrap();
    let deep = format!("{}{}", "{\"a\":".repeat(200), "1".to_owned() + &"}".repeat(200));
    let looks_inside = "INSERT INTO lanes (kind) VALUES ('endpoint')";
    sqlx::query(looks_inside).execute(&mut *tx).await.unwrap();
    sqlx::query(
        "INSERT INTO endpoints (id, store_id, name, definition, version)
         SELECT max(id), 1, 'e', '{\"url\": \"http://127.0.0.1:9\"}', 1 FROM lanes",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query(
        "WITH made AS (INSERT INTO series (lane) SELECT id FROM endpoints RETURNING id, lane)
         INSERT INTO mappings (id, store_id, name, endpoint_id, definition, version)
         SELECT id, 1, 'm', lane, '{\"endpoint\": \"e\", \"service\": \"s\", \"messages\": [\"deep:new\"],
             \"filters\": [{\"path\": \"payload.a\", \"operator\": \"present\"}]}', 1 FROM made",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    engine::bump(&mut tx).await.unwrap();

    let cases = [
        (draft(&db, store_id, "Order New", "{}"), State::Parked),
        (draft(&db, store_id, "", "{}"), State::Parked),
        (draft(&db, store_id, &"a\0:".repeat(200), "{}"), State::Parked),
        (draft(&db, store_id, "order:new", "[]"), State::Parked),
        (draft(&db, store_id, "deep:new", &deep), State::Parked),
        (draft(&db, store_id, "deep:other", &deep), State::Unrouted),
        (draft(&db, store_id, "deep:new", r#"{"a":1}"#), State::Routed),
        (Draft { hop: MAX_HOPS, ..draft(&db, store_id, "order:new", "{}") }, State::Unrouted),
        (Draft { hop: MAX_HOPS + 1, ..draft(&db, store_id, "order:new", "{}") }, State::Parked),
        (
            Draft { parked: Some("not allowed".to_owned()), ..draft(&db, store_id, "deep:new", "{}") },
            State::Parked,
        ),
        (
            Draft { delay: Duration::from_mins(1), ..draft(&db, store_id, "deep:new", r#"{"a":1}"#) },
            State::Pending,
        ),
        (Draft { delay: Duration::MAX, ..draft(&db, store_id, "order:new", "{}") }, State::Pending),
    ];
    let expected: Vec<_> = cases.iter().map(|(draft, state)| (draft.id, *state)).collect();
    let drafts = cases.into_iter().map(|(draft, _)| draft).collect();
    let catalog = Catalog::default();
    let accepted = decide::accept(&mut tx, &catalog, &db.ids, drafts).await.unwrap();
    for (number, (id, state)) in expected.iter().enumerate() {
        assert_eq!(accepted.states[id], *state, "case {number}");
    }
    assert_eq!((accepted.ready.len(), accepted.soonest), (1, Some(Duration::from_mins(1))));

    // When its time has come it is routed, once.
    let waits = expected[10].0;
    let routed = decide::route_pending(&mut tx, &catalog, &db.ids, &[waits, expected[0].0]).await.unwrap();
    assert_eq!(routed.states.into_iter().collect::<Vec<_>>(), [(waits, State::Routed)]);
    let again = decide::route_pending(&mut tx, &catalog, &db.ids, &[waits]).await.unwrap();
    assert!(again.states.is_empty() && again.ready.is_empty());
    let count = "SELECT count(*), (SELECT count(*) FROM scheduled) FROM deliveries";
    let row = sqlx::query(count).fetch_one(&mut *tx).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (2, 2));
}

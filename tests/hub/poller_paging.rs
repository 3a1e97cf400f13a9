//! How pollers read a storefront page by page: what they ask for, when they believe that they saw everything, and what
//! they say when they cannot.

use super::stage::STORE;
use crate::engine::ask;
use crate::support::answer::{json, refusal, violations};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::sync::Arc;

const POLLER: &str = "/stores/s1/pollers/shop";

/// A poller of orders, two a page, with the members beside.
fn definition(url: &str, members: &Value) -> Value {
    let collections = json!([{ "name": "orders", "id": "number", "key": "order" }]);
    let mut definition = json!({ "api": url, "every": "1h", "page_size": 2, "collections": collections });
    definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    definition
}

fn says(body: &Value) -> Reply {
    Reply::Says(200, Vec::new(), body.to_string())
}

/// What follows `name=` in what was asked.
fn parameter(asked: &Asked, name: &str) -> Option<String> {
    let url = url::Url::parse("http://shop").unwrap().join(&asked.path).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn number(asked: &Asked, name: &str) -> usize {
    parameter(asked, name).unwrap().parse().unwrap()
}

async fn poller(app: &TestApp) -> Value {
    json(app.get(&format!("{STORE}/pollers")).await, 200).await[0].clone()
}

async fn start(shop: &Scripted, members: &Value) -> (TestApp, PgConnection) {
    let app = TestApp::start().await;
    json(app.put(POLLER, &definition(&shop.url, members)).await, 201).await;
    let db = app.connect().await;
    (app, db)
}

async fn run(app: &TestApp) {
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    eventually("the run is done", async || {
        let poller = poller(app).await;
        assert_eq!(poller["failures"], 0, "{poller}");
        poller["queued"] == false
    })
    .await;
}

/// The numbers of the orders that were told, in the order of telling.
async fn told(db: &mut PgConnection) -> Vec<String> {
    let question = "SELECT payload #>> '{order,number}' FROM hub_messages ORDER BY id";
    sqlx::query_scalar(question).fetch_all(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_deleted_between_two_pages_hides_no_other() {
    let orders = Arc::new(Mutex::new((1..=6).collect::<Vec<u32>>()));
    let list = Arc::clone(&orders);
    let shop = Scripted::start(move |asked| {
        let mut orders = list.lock();
        let since = parameter(asked, "since").unwrap_or_default();
        let time = |n: &u32| format!("2026-07-01T{n:02}:00:00Z");
        let wanted: Vec<&u32> = orders.iter().filter(|n| time(n) >= since).collect();
        let page = number(asked, "page");
        let part: Vec<Value> = wanted
            .iter()
            .skip((page - 1) * 2)
            .take(2)
            .map(|n| json!({ "number": format!("R{n}"), "updated_at": time(n) }))
            .collect();
        let pages = wanted.len().div_ceil(2);
        orders.retain(|n| *n != 1);
        says(&json!({ "orders": part, "count": part.len(), "pages": pages }))
    })
    .await;
    let (app, mut db) = start(&shop, &json!({})).await;
    run(&app).await;
    run(&app).await;
    let mut numbers = told(&mut db).await;
    numbers.sort();
    assert_eq!(numbers, ["R1", "R2", "R3", "R4", "R5", "R6"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storefront_that_gives_the_same_page_again_is_told_apart_from_one_that_has_no_more() {
    let page = json!([{ "number": "R1", "updated_at": 1 }, { "number": "R2", "updated_at": 2 }]);
    let shop = Scripted::start(move |_| says(&page)).await;
    let (app, mut db) = start(&shop, &json!({})).await;
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    eventually("it fails", async || poller(&app).await["failures"].as_i64() > Some(0)).await;
    let error = poller(&app).await["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("the same records again") && error.contains("none"), "{error}");
    assert_eq!(told(&mut db).await, ["R1", "R2"]);
    // As the error says: one that has no pages.
    let none = definition(&shop.url, &json!({ "paging": { "kind": "none" } }));
    json(app.put(POLLER, &none).await, 200).await;
    let before = shop.asked().len();
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    eventually("it is done", async || poller(&app).await["queued"] == false).await;
    assert_eq!(poller(&app).await["last_error"], Value::Null);
    let asked = &shop.asked()[before..];
    assert_eq!(asked.iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), ["/orders"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_run_reads_in_no_order_is_read_to_its_end_and_from_its_bookmark_then() {
    const ORDERS: usize = 21_000;
    let shop = Scripted::start(move |asked| {
        let (page, size) = (number(asked, "page"), number(asked, "per_page"));
        let since: usize = parameter(asked, "since").map_or(0, |since| since.parse().unwrap());
        // By number, and the times run the other way round within each hundred.
        let all = (0..ORDERS).map(|n| (n, n / 100 * 100 + 99 - n % 100)).filter(|(_, time)| *time >= since);
        let all: Vec<(usize, usize)> = all.collect();
        let part = all.iter().skip((page - 1) * size).take(size);
        let part: Vec<Value> = part.map(|(n, time)| json!({ "number": n, "updated_at": time })).collect();
        says(&json!({ "orders": part, "pages": all.len().div_ceil(size) }))
    })
    .await;
    let (app, mut db) = start(&shop, &json!({ "page_size": 1000 })).await;
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    let mut is_queued = true;
    while is_queued {
        let before = shop.asked().len();
        eventually("there is progress", async || {
            let poller = poller(&app).await;
            assert_eq!(poller["last_error"], Value::Null);
            is_queued = poller["queued"] == true;
            shop.asked().len() > before || !is_queued
        })
        .await;
    }
    let each = "SELECT count(DISTINCT payload #>> '{order,number}') FROM hub_messages";
    let orders = i64::try_from(ORDERS).unwrap();
    let all: i64 = ask(&mut db, "SELECT count(*) FROM hub_messages").await;
    assert_eq!((all, ask::<i64>(&mut db, each).await), (orders, orders));
    let before = shop.asked().len();
    run(&app).await;
    let asked = shop.asked()[before..].to_vec();
    assert_eq!(parameter(&asked[0], "since").as_deref(), Some("20998"), "one before the last");
    assert_eq!(asked.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overlap_is_taken_off_every_kind_of_time_and_off_numbers_where_it_is_one() {
    for (written, overlap, since) in [
        (json!("2026-07-01T12:00:30Z"), json!(null), Some("2026-07-01T11:55:30Z")),
        (json!("2026-07-01T12:00:30.250+02:00"), json!(null), Some("2026-07-01T11:55:30.250+02:00")),
        (json!("2026-07-01T00:02:00"), json!(null), Some("2026-06-30T23:57:00")),
        (json!("2026-07-01 12:00:30"), json!("1h"), Some("2026-07-01 11:00:30")),
        (json!("2026-07-01 12:00:30 UTC"), json!("90s"), Some("2026-07-01 11:59:00 UTC")),
        (json!("2026-07-01"), json!(null), Some("2026-06-30")),
        (json!(1_782_900_000), json!("1m"), Some("1782899940")),
        (json!(9_007_199_254_740_993_u64), json!(2), Some("9007199254740991")),
        (json!("v7"), json!(null), Some("v7")),
    ] {
        let order = json!({ "number": "R1", "updated_at": written });
        let shop = Scripted::start(move |_| says(&json!({ "orders": [order], "pages": 1 }))).await;
        let members = if overlap.is_null() { json!({}) } else { json!({ "overlap": overlap }) };
        let (app, _) = start(&shop, &members).await;
        run(&app).await;
        run(&app).await;
        let asked = shop.asked();
        assert_eq!(parameter(&asked[0], "since"), None);
        assert_eq!(parameter(&asked[1], "since").as_deref(), since, "{written}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_double_tells_apart_are_two() {
    let version = Arc::new(Mutex::new(0_u8));
    let current = Arc::clone(&version);
    let shop = Scripted::start(move |_| {
        let version = *current.lock();
        let body = format!(
            r#"{{"pages":1,"orders":[{{"number":12345678901234567890123,"n":1,"updated_at":1}},
            {{"number":12345678901234567890124,"n":{version},"updated_at":123456789012345678901{version}}}]}}"#
        );
        Reply::Says(200, Vec::new(), body)
    })
    .await;
    let (app, mut db) = start(&shop, &json!({})).await;
    run(&app).await;
    assert_eq!(told(&mut db).await, ["12345678901234567890123", "12345678901234567890124"]);
    *version.lock() = 1;
    run(&app).await;
    run(&app).await;
    let since = parameter(shop.asked().last().unwrap(), "since");
    assert_eq!(since.as_deref(), Some("1234567890123456789010"), "one before the last, to the digit");
    assert_eq!(told(&mut db).await.len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_in_front_of_a_page_is_no_part_of_it() {
    let page = json!({ "orders": [{ "number": "R1" }], "pages": 1 });
    let shop = Scripted::start(move |_| Reply::Says(200, Vec::new(), format!("\u{feff}{page}"))).await;
    let (app, mut db) = start(&shop, &json!({})).await;
    run(&app).await;
    assert_eq!(told(&mut db).await, ["R1"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_to_somebody_else_is_not_followed() {
    let stranger = Scripted::start(|_| says(&json!([]))).await;
    let elsewhere = format!("{}/orders?page=2", stranger.url);
    let shop = Scripted::start(move |_| {
        says(&json!({ "orders": [{ "number": "R1", "updated_at": 1 }], "next": elsewhere }))
    })
    .await;
    let members = json!({ "token": "s3cr3t", "paging": { "kind": "link", "next": "next" } });
    let (app, mut db) = start(&shop, &members).await;
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    eventually("it fails", async || {
        poller(&app).await["last_error"] == "orders: the next page lies at another host"
    })
    .await;
    assert!(stranger.asked().is_empty(), "it learns no token");
    assert_eq!(told(&mut db).await, ["R1"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_page_that_names_no_next_one_where_it_should_is_an_error() {
    let shop = Scripted::start(|_| {
        let orders = json!([{ "number": "R1", "updated_at": 1 }, { "number": "R2", "updated_at": 2 }]);
        says(&json!({ "orders": orders, "next": "abc" }))
    })
    .await;
    let (app, _) = start(&shop, &json!({ "paging": { "kind": "cursor" } })).await;
    json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    eventually("it fails", async || {
        let error = poller(&app).await["last_error"].as_str().unwrap_or_default().to_owned();
        error.contains("no member next_cursor")
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_history_of_snapshots_what_is_there_is_known_and_what_comes_is_told() {
    let orders = Arc::new(Mutex::new(vec![json!({ "number": "R1", "updated_at": 1 })]));
    let list = Arc::clone(&orders);
    let shop = Scripted::start(move |asked| {
        let orders = list.lock();
        let part: Vec<&Value> = orders.iter().skip((number(asked, "page") - 1) * 2).take(2).collect();
        says(&json!({ "orders": part, "pages": orders.len().div_ceil(2) }))
    })
    .await;
    for n in 2..=5 {
        orders.lock().push(json!({ "number": format!("R{n}"), "updated_at": n }));
    }
    let (app, mut db) = start(&shop, &json!({ "history": "snapshot" })).await;
    run(&app).await;
    assert_eq!(told(&mut db).await, [] as [String; 0]);
    orders.lock()[1] = json!({ "number": "R2", "updated_at": 6 });
    orders.lock().push(json!({ "number": "R7", "updated_at": 7 }));
    run(&app).await;
    let keys: Vec<String> =
        sqlx::query_scalar("SELECT message FROM hub_messages ORDER BY id").fetch_all(&mut db).await.unwrap();
    assert_eq!(keys, ["order:update", "order:new"]);
    assert_eq!(told(&mut db).await, ["R2", "R7"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_how_many_messages_a_first_run_would_make_and_makes_none() {
    let shop = Scripted::start(|asked| {
        let page = number(asked, "page");
        if asked.path.starts_with("/payments") {
            return Reply::status(503);
        }
        let part: Vec<Value> = (page * 2 - 1..=(page * 2).min(5)).map(|n| json!({ "number": n })).collect();
        says(&json!({ "orders": part, "pages": 3 }))
    })
    .await;
    let collections = json!([{ "name": "orders", "id": "number", "key": "order" }, { "name": "payments", "key": "payment" }]);
    let (app, mut db) = start(&shop, &json!({ "collections": collections })).await;
    let preview = json(app.post(&format!("{POLLER}/preview"), &Value::Null).await, 200).await;
    let expected = json!({ "messages": 5, "at_least": true, "collections": [
        { "name": "orders", "messages": 5, "at_least": false, "error": null },
        { "name": "payments", "messages": 0, "at_least": true, "error": "the storefront answered 503" }
    ] });
    assert_eq!(preview, expected);
    assert_eq!(told(&mut db).await, [] as [String; 0]);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM poller_snapshots").await, 0);
    let snapshot = definition(&shop.url, &json!({ "history": "snapshot" }));
    json(app.put(POLLER, &snapshot).await, 200).await;
    let preview = json(app.post(&format!("{POLLER}/preview"), &Value::Null).await, 200).await;
    assert_eq!((&preview["messages"], &preview["at_least"]), (&json!(0), &json!(false)));
    refusal(app.post(&format!("{STORE}/pollers/none/preview"), &Value::Null).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_storefront_pages_is_written_without_mistakes() {
    let shop = Scripted::start(|_| says(&json!([]))).await;
    let app = TestApp::start().await;
    for (members, expected) in [
        (json!({ "paging": { "kind": "pages" } }), vec![("/paging/kind", "enum")]),
        (
            json!({ "paging": { "kind": "none", "next": "n" } }),
            vec![("/paging/next", "additionalProperties")],
        ),
        (
            json!({ "paging": { "kind": "cursor", "pages": "n" } }),
            vec![("/paging/pages", "additionalProperties")],
        ),
        (json!({ "paging": {} }), vec![("/paging", "required")]),
        (json!({ "history": "all" }), vec![("/history", "enum")]),
        (json!({ "overlap": "60d" }), vec![("/overlap", "range")]),
        (json!({ "overlap": -1 }), vec![("/overlap", "range")]),
        (json!({ "overlap": true }), vec![("/overlap", "duration")]),
    ] {
        let problem = refusal(app.put(POLLER, &definition(&shop.url, &members)).await, 422).await;
        assert_eq!(violations(&problem), expected, "{members}");
    }
    app.stop().await;
}

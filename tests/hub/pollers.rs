//! Storefront pollers: what changed in a store, told once, whatever fails on the way.

use super::stage::STORE;
use super::storefront::Storefront;
use super::upkeep::act;
use crate::engine::lost_answers::{COMMIT, Proxy};
use crate::support::answer::{json, refusal, violations};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::scripted::Reply;
use axum::http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const POLLER: &str = "/stores/s1/pollers/shop";

/// A poller of the storefront's orders, ten a page, with the members beside.
fn definition(shop: &Storefront, members: &Value) -> Value {
    let mut definition = json!({
        "api": format!("{}/api/", shop.url()), "every": "1h", "page_size": 10,
        "collections": [{
            "name": "orders", "id": "number", "key": "order",
            "rules": [{ "from": "complete", "to": "canceled", "message": "order:cancel" }]
        }]
    });
    definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    definition
}

async fn start(shop: &Storefront) -> TestApp {
    let app = TestApp::start().await;
    json(app.put(POLLER, &definition(shop, &json!({}))).await, 201).await;
    app
}

/// The poller as it is listed.
async fn listed(app: &TestApp) -> Value {
    json(app.get(&format!("{STORE}/pollers")).await, 200).await[0].clone()
}

/// Has the poller run, and waits until that is done.
async fn run(app: &TestApp) {
    let poller = json(app.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    assert_eq!(poller["queued"], true);
    eventually("the run is done", async || listed(app).await["queued"] == false).await;
}

/// The messages of the storefront that were told since the last time: keys and payloads, oldest first.
async fn told(app: &TestApp, so_far: &mut usize) -> Vec<(String, Value)> {
    let mut messages = Vec::new();
    let page = json(app.get(&format!("{STORE}/messages?limit=500")).await, 200).await;
    let listed: Vec<&Value> = page["messages"].as_array().unwrap().iter().rev().collect();
    for message in &listed[*so_far..] {
        let id = message["message_id"].as_str().or_else(|| message["id"].as_str()).unwrap();
        let whole = app.told(id).await;
        let key = whole["message"].as_str().unwrap().to_owned();
        if !key.starts_with("hub:") {
            messages.push((key, whole["payload"].clone()));
        }
    }
    *so_far = listed.len();
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_and_what_changed_is_told_and_what_did_not_is_not() {
    let shop = Storefront::start("orders").await;
    let (first, second) = (shop.order("R1", "complete", "19.90"), shop.order("R2", "cart", "5.00"));
    let app = start(&shop).await;
    let mut so_far = 0;
    run(&app).await;
    let new = |order: &Value| ("order:new".to_owned(), json!({ "order": order }));
    assert_eq!(told(&app, &mut so_far).await, [new(&first), new(&second)]);

    run(&app).await;
    assert_eq!(told(&app, &mut so_far).await, []);

    let canceled = shop.order("R1", "canceled", "19.90");
    let changed = shop.order("R2", "complete", "6.00");
    run(&app).await;
    let diff = |from: &Value, to: &Value, fields: &[&str]| -> Value {
        fields.iter().map(|field| ((*field).to_owned(), json!([from[field], to[field]]))).collect()
    };
    let cancel = json!({ "order": canceled, "previous": first, "diff": diff(&first, &canceled, &["state", "updated_at"]) });
    let update = json!({
        "order": changed, "previous": second, "diff": diff(&second, &changed, &["state", "total", "updated_at"])
    });
    let expected = [("order:cancel".to_owned(), cancel), ("order:update".to_owned(), update)];
    assert_eq!(told(&app, &mut so_far).await, expected);

    let poller = listed(&app).await;
    assert_eq!((&poller["failures"], &poller["last_error"]), (&json!(0), &Value::Null));
    assert!(poller["last_run"].is_string() && poller["next_run"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reads_every_page_since_its_bookmark() {
    let shop = Storefront::start("orders").await;
    for number in 0..25 {
        shop.order(&format!("R{number}"), "complete", "1.00");
    }
    let app = TestApp::start().await;
    let token = json!({ "token": "s3cr3t", "token_header": "X-Shop-Token" });
    json(app.put(POLLER, &definition(&shop, &token)).await, 201).await;
    run(&app).await;
    let mut so_far = 0;
    assert_eq!(told(&app, &mut so_far).await.len(), 25);
    let asked = shop.asked();
    let page = |number: u8| format!("/api/orders?page={number}&per_page=10");
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
    // Twice: nothing moved between two pages.
    assert_eq!(paths, [page(1), page(2), page(3), page(1), page(2), page(3)]);
    for request in &asked {
        assert_eq!(request.header("x-shop-token"), Some("s3cr3t"));
        assert_eq!(request.header("accept"), Some("application/json"));
    }

    // The bookmark is the last change; a run begins five minutes before it, and tells nothing twice.
    shop.order("R3", "complete", "2.00");
    run(&app).await;
    let messages = told(&app, &mut so_far).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].0, "order:update");
    let since = shop.asked()[6].path.clone();
    assert!(since.starts_with("/api/orders?since=2026-07-01T00%3A19%3A00Z&page=1"), "{since}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_tried_again_until_it_is_not_and_tells_nothing_twice() {
    let shop = Storefront::start("orders").await;
    for number in 0..15 {
        shop.order(&format!("R{number}"), "complete", "1.00");
    }
    let app = start(&shop).await;
    let mut so_far = 0;
    // The first page comes, and is told at once; the second does not.
    let mut first_page = 10;
    for (reply, error) in [
        (Reply::status(503), "orders: the storefront answered 503"),
        (Reply::Resets, "orders: reset: the connection ended before an answer came"),
        (
            Reply::Says(200, Vec::new(), "<html>s3cr3t".to_owned()),
            "orders: the answer is no JSON object or list",
        ),
        (
            Reply::Says(200, Vec::new(), r#"{"count":0}"#.to_owned()),
            "orders: the answer has no list named orders",
        ),
        (
            Reply::Promises(2 << 20),
            "orders: body_too_large: the answer (200 OK) is larger than 1048576 bytes",
        ),
    ] {
        shop.fails(2, reply);
        let before = listed(&app).await["failures"].as_i64().unwrap();
        app.post(&format!("{POLLER}/run"), &Value::Null).await;
        eventually(error, async || {
            let poller = listed(&app).await;
            poller["last_error"] == error && poller["failures"].as_i64().unwrap() > before
        })
        .await;
        assert_eq!(listed(&app).await["queued"], true, "it is tried again by itself");
        assert_eq!(told(&app, &mut so_far).await.len(), std::mem::take(&mut first_page));
    }
    shop.recovers();
    run(&app).await;
    assert_eq!(told(&app, &mut so_far).await.len(), 5);
    let poller = listed(&app).await;
    assert_eq!((&poller["failures"], &poller["last_error"]), (&json!(0), &Value::Null));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storefront_is_left_alone_for_as_long_as_it_asks() {
    let shop = Storefront::start("orders").await;
    shop.fails(1, Reply::Says(429, vec![("retry-after", "1000".to_owned())], String::new()));
    let app = start(&shop).await;
    app.post(&format!("{POLLER}/run"), &Value::Null).await;
    eventually("it fails", async || listed(&app).await["failures"] == 1).await;
    let mut db = app.connect().await;
    let seconds = "SELECT extract(epoch FROM run_at - now())::int FROM scheduled";
    let seconds: i32 = sqlx::query_scalar(seconds).fetch_one(&mut db).await.unwrap();
    assert!((900..=1000).contains(&seconds), "{seconds}");
    shop.recovers();
    run(&app).await;
    assert_eq!(listed(&app).await["failures"], 0, "by hand it runs at once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_collection_that_fails_does_not_stand_in_the_way_of_the_others() {
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let app = TestApp::start().await;
    // Without collections: orders, payments and shipments.
    let usual = json!({ "api": shop.url(), "every": "1h" });
    json(app.put(POLLER, &usual).await, 201).await;
    app.post(&format!("{POLLER}/run"), &Value::Null).await;
    eventually("payments and shipments fail", async || {
        let error = "payments: the storefront answered 404; shipments: the storefront answered 404";
        listed(&app).await["last_error"] == error
    })
    .await;
    assert_eq!(told(&app, &mut 0).await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_a_run_neither_loses_nor_repeats_a_change() {
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let first = start(&shop).await;
    shop.holds();
    first.post(&format!("{POLLER}/run"), &Value::Null).await;
    eventually("a page is asked for", async || shop.asked().len() == 1).await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    first.server.stop_within(Duration::ZERO).await;
    shop.recovers();
    let mut so_far = 0;
    // At once: that the first was told to stop is no failure of the run.
    eventually("the other goes on", async || listed(&second).await["queued"] == false).await;
    let poller = listed(&second).await;
    assert_eq!((&poller["failures"], &poller["last_error"]), (&json!(0), &Value::Null));
    assert_eq!(told(&second, &mut so_far).await.len(), 1);
    run(&second).await;
    assert_eq!(told(&second, &mut so_far).await, []);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_commit_was_not_answered_counts_once() {
    let proxy = Proxy::before(&database().await).await;
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let app = TestApp::on(proxy.options.clone(), &[], |app| app).await;
    json(app.put(POLLER, &definition(&shop, &json!({}))).await, 201).await;
    shop.holds();
    app.post(&format!("{POLLER}/run"), &Value::Null).await;
    eventually("a page is asked for", async || shop.asked().len() == 1).await;
    proxy.lose_the_answer_to(COMMIT);
    shop.recovers();
    eventually("an answer is lost", async || proxy.has_lost_it()).await;
    app.server.run_until_idle().await.unwrap();
    eventually("it is done", async || listed(&app).await["queued"] == false).await;
    assert_eq!((told(&app, &mut 0).await.len(), shop.asked().len()), (1, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_runs_it_by_itself_and_never_twice_at_a_time() {
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let first = start(&shop).await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    shop.holds();
    for _ in 0..3 {
        let mut db = first.connect().await;
        // Only the schedule's hour passes: the workers live.
        let later = "UPDATE schedules SET next_at = next_at - interval '1 hour';
            UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider";
        act(&mut db, later).await;
        let next = "SELECT count(*) FROM schedules WHERE next_at > now()";
        eventually("its moment passes", async || {
            sqlx::query_scalar::<_, i64>(next).fetch_one(&mut db).await.unwrap() == 1
        })
        .await;
    }
    eventually("a page is asked for", async || !shop.asked().is_empty()).await;
    let by_hand = json(first.post(&format!("{POLLER}/run"), &Value::Null).await, 202).await;
    assert_eq!(by_hand["queued"], true);
    let waiting = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled)";
    let mut db = first.connect().await;
    let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut db).await.unwrap();
    assert_eq!((waiting, shop.asked().len()), (0, 1));
    shop.recovers();
    eventually("it is done", async || listed(&first).await["queued"] == false).await;
    assert_eq!(told(&first, &mut 0).await.len(), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_record_can_be_is_left_out_and_the_others_are_told_as_they_are() {
    let shop = Storefront::start("orders").await;
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let page = format!(
        r#"{{"pages":1,"orders":[{{"number":1,"note":"a\u0000b\ud800","total":1e999,"deep":{deep}}},{{"number":null}},{{"total":1}},"R3",{{"number":[4]}}]}}"#
    );
    shop.fails(1, Reply::Says(200, Vec::new(), page));
    let app = start(&shop).await;
    run(&app).await;
    // No reader of JSON is asked.
    let mut db = app.connect().await;
    let payloads: Vec<String> =
        sqlx::query_scalar("SELECT payload::text FROM hub_messages").fetch_all(&mut db).await.unwrap();
    let [payload] = &payloads[..] else { panic!("{payloads:?}") };
    assert!(payload.contains(r#""note":"a\u0000b\ud800","total":1e999"#), "{payload}");
    let poller = listed(&app).await;
    assert_eq!(poller["last_error"], "orders: 4 records cannot be used and were left out");
    assert_eq!((&poller["failures"], poller["last_run"].is_string()), (&json!(0), true));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_put_shown_without_its_token_and_deleted() {
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let app = TestApp::start().await;
    let with_token = definition(&shop, &json!({ "token": "s3cr3t" }));
    let shown = json(app.put(POLLER, &with_token).await, 201).await;
    assert_eq!(shown["token"], "[redacted]");
    let mut read = json(app.get(POLLER).await, 200).await;
    assert_eq!(read.as_object_mut().unwrap().remove("state").unwrap()["queued"], false);
    assert_eq!(read, shown);
    assert_eq!(json(app.put(POLLER, &shown).await, 200).await, shown);
    run(&app).await;
    assert_eq!(
        shop.asked()[0].header("x-spree-token"),
        Some("s3cr3t"),
        "what was shown and put back is kept"
    );
    let mut db = app.connect().await;
    let stored: String =
        sqlx::query_scalar("SELECT (p.*)::text FROM pollers AS p").fetch_one(&mut db).await.unwrap();
    assert!(!stored.contains("s3cr3t") && !stored.contains("733363723374"), "{stored}");

    let off = definition(&shop, &json!({ "enabled": false, "token": null }));
    json(app.put(POLLER, &off).await, 200).await;
    assert_eq!(listed(&app).await["next_run"], Value::Null);
    refusal(app.post(&format!("{POLLER}/run"), &Value::Null).await, 409).await;
    let problem =
        refusal(app.put(POLLER, &definition(&shop, &json!({ "token": "[redacted]" }))).await, 422).await;
    assert_eq!(violations(&problem), [("/token", "token")], "there is none to be kept");
    let private = json!({ "api": "http://192.168.1.1", "every": "1h" });
    let problem = refusal(app.put(POLLER, &private).await, 422).await;
    assert_eq!(violations(&problem), [("/api", "url")]);
    let problem =
        refusal(app.put(POLLER, &json!({ "every": "1s", "cron": "x", "colour": 1 })).await, 422).await;
    let expected = [("", "oneOf"), ("", "required"), ("/colour", "additionalProperties"), ("/cron", "cron")];
    assert_eq!(violations(&problem), expected);
    for (path, pointer) in [("/stores/s1/pollers/-x", "/name"), ("/stores/hub/pollers/x", "/store")] {
        let problem = refusal(app.put(path, &definition(&shop, &json!({}))).await, 422).await;
        assert_eq!(violations(&problem), [(pointer, "pattern")]);
    }

    assert_eq!(app.delete(POLLER).await.status(), 204);
    for path in [POLLER, "/stores/s1/pollers/a%00b", "/stores/nowhere/pollers/shop"] {
        refusal(app.get(path).await, 404).await;
        refusal(app.delete(path).await, 404).await;
    }
    refusal(app.post(&format!("{POLLER}/run"), &Value::Null).await, 404).await;
    // One that is made again has seen nothing.
    json(app.put(POLLER, &definition(&shop, &json!({}))).await, 201).await;
    run(&app).await;
    assert_eq!(told(&app, &mut 1).await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_of_the_hub_and_of_the_store_put_pollers_and_nobody_else() {
    let shop = Storefront::start("orders").await;
    let app = TestApp::start().await;
    let document = definition(&shop, &json!({}));
    for role in ["hub_writer", "s1_hub_writer", "s2_hub_admin", "hub_reader", "queue_admin"] {
        for (method, path) in [
            (Method::PUT, POLLER.to_owned()),
            (Method::POST, format!("{POLLER}/run")),
            (Method::DELETE, POLLER.to_owned()),
        ] {
            let answer = app.request_as(&[role], method, &path).json(&document).send().await.unwrap();
            refusal(answer, 403).await;
        }
    }
    for role in ["hub_admin", "s1_hub_admin"] {
        let answer = app.request_as(&[role], Method::PUT, POLLER).json(&document).send().await.unwrap();
        assert!(answer.status().is_success(), "{role}");
    }
    let read = app.request_as(&["s1_hub_reader"], Method::GET, POLLER).send().await.unwrap();
    assert_eq!(read.status(), 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_by_a_definition_that_is_another_now_is_not_looked_at() {
    let shop = Storefront::start("orders").await;
    shop.order("R1", "complete", "1.00");
    let app = start(&shop).await;
    shop.holds();
    app.post(&format!("{POLLER}/run"), &Value::Null).await;
    eventually("a page is asked for", async || shop.asked().len() == 1).await;
    let collections = json!([{ "name": "orders", "id": "number", "key": "sale" }]);
    json(app.put(POLLER, &definition(&shop, &json!({ "collections": collections }))).await, 200).await;
    shop.recovers();
    eventually("it is done", async || listed(&app).await["queued"] == false).await;
    let messages = told(&app, &mut 0).await;
    assert_eq!(messages.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["sale:new"]);
    app.stop().await;
}

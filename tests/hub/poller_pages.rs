//! Pollers that read much: what a page brings is told before the next is asked for, and nobody stands in their way.

use super::stage::STORE;
use super::storefront::Storefront;
use super::upkeep::act;
use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use serde_json::{Value, json};
use std::time::Duration;

const TOLD: &str = "SELECT count(*) FROM hub_messages";

/// A poller of the storefront's orders.
fn definition(shop: &Storefront, page_size: usize) -> Value {
    json!({
        "api": shop.url(), "every": "1h", "page_size": page_size,
        "collections": [{ "name": "orders", "id": "number", "key": "order" }]
    })
}

fn orders(shop: &Storefront, count: usize) {
    for number in 0..count {
        shop.order(&format!("R{number}"), "complete", "1.00");
    }
}

async fn run(app: &TestApp, poller: &str) {
    json(app.post(&format!("{poller}/run"), &Value::Null).await, 202).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_between_two_pages_has_told_the_first_and_the_next_tells_the_others() {
    let poller = &format!("{STORE}/pollers/shop");
    let shop = Storefront::start("orders").await;
    orders(&shop, 35);
    let first = TestApp::start().await;
    json(first.put(poller, &definition(&shop, 10)).await, 201).await;
    shop.holds_page(3);
    run(&first, poller).await;
    let mut db = first.connect().await;
    eventually("two pages are told", async || ask::<i64>(&mut db, TOLD).await == 20).await;
    let marks: i64 = ask(&mut db, "SELECT count(*) FROM poller_bookmarks").await;
    assert_eq!(marks, 0, "nobody knows yet what lies behind them");
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    first.server.stop_within(Duration::ZERO).await;
    shop.recovers();
    let queued = "SELECT count(*) FROM pollers WHERE queued";
    eventually("the other goes on", async || {
        second.elapse(Duration::from_secs(10)).await;
        ask::<i64>(&mut db, queued).await == 0
    })
    .await;
    let each = "SELECT count(DISTINCT payload #>> '{order,number}') FROM hub_messages";
    assert_eq!((ask::<i64>(&mut db, TOLD).await, ask::<i64>(&mut db, each).await), (35, 35));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pollers_of_a_thousand_records_and_three_mappings_each_finish_at_once() {
    const POLLERS: i64 = 30;
    const RECORDS: i64 = 1000;
    let shop = Storefront::start("orders").await;
    orders(&shop, usize::try_from(RECORDS).unwrap());
    let app = TestApp::start().await;
    for store in 0..POLLERS {
        let store = format!("/stores/many{store}");
        // It takes nothing: the deliveries wait.
        let endpoint = json!({ "url": shop.url(), "enabled": false });
        json(app.put(&format!("{store}/endpoints/e"), &endpoint).await, 201).await;
        for mapping in ["a", "b", "c"] {
            let mapping_of = json!({ "endpoint": "e", "service": "take", "messages": ["order:*"] });
            json(app.put(&format!("{store}/mappings/{mapping}"), &mapping_of).await, 201).await;
        }
        json(app.put(&format!("{store}/pollers/shop"), &definition(&shop, 250)).await, 201).await;
    }
    for store in 0..POLLERS {
        run(&app, &format!("/stores/many{store}/pollers/shop")).await;
    }
    let mut db = app.connect().await;
    let mut told: i64 = 0;
    while told < POLLERS * RECORDS {
        let before = told;
        eventually("there is progress", async || {
            told = ask(&mut db, TOLD).await;
            told > before
        })
        .await;
    }
    let undone = "SELECT count(*) FROM pollers WHERE queued OR failures > 0 OR last_run IS NULL";
    eventually("all are done", async || ask::<i64>(&mut db, undone).await == 0).await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM deliveries").await, 3 * POLLERS * RECORDS);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_database_refuses_is_left_out_and_one_that_takes_too_long_fails_the_run() {
    let poller = &format!("{STORE}/pollers/shop");
    let shop = Storefront::start("orders").await;
    orders(&shop, 30);
    let app = TestApp::on(database().await.options([("statement_timeout", "2s")]), &[], |app| app).await;
    let mut db = app.connect().await;
    act(
        &mut db,
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.record_id = 'R7' THEN
                RAISE EXCEPTION 'not this one';
            ELSIF NEW.record_id = 'R23' AND NEW.record ->> 'total' = '1.00' THEN
                PERFORM pg_sleep(60);
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER odd BEFORE INSERT ON poller_snapshots FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    .await;
    json(app.put(poller, &definition(&shop, 20)).await, 201).await;
    run(&app, poller).await;
    // All but the two, and those that came behind the slow one on its page.
    eventually("it fails", async || {
        let error = "SELECT count(*) FROM pollers WHERE last_error = 'orders: the database takes too long for one of its records'";
        ask::<i64>(&mut db, error).await == 1
    })
    .await;
    let before = ask::<i64>(&mut db, TOLD).await;
    assert!((22..28).contains(&before), "{before}");
    // It changes, and takes no longer.
    shop.order("R23", "complete", "2.00");
    run(&app, poller).await;
    let remark = "SELECT count(*) FROM pollers WHERE NOT queued AND failures = 0
        AND last_error = 'orders: 1 records cannot be stored and were left out'";
    eventually("it is done", async || ask::<i64>(&mut db, remark).await == 1).await;
    let each = "SELECT count(DISTINCT payload #>> '{order,number}') FROM hub_messages";
    assert_eq!((ask::<i64>(&mut db, TOLD).await, ask::<i64>(&mut db, each).await), (29, 29));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_something_is_amiss_with_the_database_no_record_is_left_out() {
    let poller = &format!("{STORE}/pollers/shop");
    let shop = Storefront::start("orders").await;
    orders(&shop, 5);
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    // A right that is gone, and comes back.
    act(
        &mut db,
        "CREATE SEQUENCE tries;
        CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') <= 6 THEN
                RAISE insufficient_privilege;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuses BEFORE INSERT ON poller_snapshots FOR EACH ROW EXECUTE FUNCTION refuses()",
    )
    .await;
    json(app.put(poller, &definition(&shop, 20)).await, 201).await;
    run(&app, poller).await;
    let done = "SELECT count(*) FROM pollers WHERE NOT queued AND failures = 0 AND last_run IS NOT NULL";
    eventually("it is done", async || ask::<i64>(&mut db, done).await == 1).await;
    assert_eq!(ask::<i64>(&mut db, TOLD).await, 5);
    let remarks: i64 = ask(&mut db, "SELECT count(*) FROM pollers WHERE last_error IS NOT NULL").await;
    assert_eq!(remarks, 0, "nothing was left out");
    app.stop().await;
}

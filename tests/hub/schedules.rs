//! Schedules of mappings: poll messages that come by themselves, each once, whatever servers there are.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
/// A little more than an hour: no moment comes twice by the clock that the tests set back.
const LATER: Duration = Duration::from_mins(61);

/// A mapping with this schedule to the service `poll` of the endpoint `source`.
fn polling(schedule: &Value) -> Value {
    json!({ "service": "poll", "schedule": schedule })
}

fn hourly() -> Value {
    json!({ "every": "1h", "message": "orders:poll" })
}

/// Moments that fired: how many, and how many of them made a message.
async fn ticks(app: &TestApp) -> (i64, i64) {
    let mut db = app.connect().await;
    sqlx::query_as("SELECT count(*), count(item) FROM ticks").fetch_one(&mut db).await.unwrap()
}

/// The keys of all messages of the store, newest first.
async fn messages(app: &TestApp) -> Vec<String> {
    let page = json(app.get(&format!("{STORE}/messages?limit=500")).await, 200).await;
    let messages = page["messages"].as_array().unwrap().iter();
    messages.map(|message| message["message"].as_str().unwrap().to_owned()).collect()
}

async fn unfinished(app: &TestApp) -> i64 {
    let mut db = app.connect().await;
    let count = "SELECT count(*) FROM deliveries WHERE status = 'PENDING'";
    sqlx::query_scalar(count).fetch_one(&mut db).await.unwrap()
}

/// When a mapping fires next, as it is listed.
async fn next_tick(app: &TestApp) -> Value {
    json(app.get(&format!("{STORE}/mappings")).await, 200).await[0]["next_tick"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_sends_its_message_to_its_mapping_alone() {
    let source = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    app.mapping("all", "source", &["orders:*"], json!({})).await;
    app.elapse(HOUR).await;
    eventually("it fires", async || ticks(&app).await == (1, 1)).await;
    eventually("it is delivered", async || unfinished(&app).await == 0).await;
    let asked = source.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path, "/poll");
    assert_eq!(asked[0].json()["message"], "orders:poll");
    assert_eq!(asked[0].json()["payload"], json!({ "parameters": [] }));
    assert_eq!(messages(&app).await, ["orders:poll"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_the_one_before_it() {
    let source = Scripted::start(|asked| asked.acknowledge(json!({})).held()).await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    app.mapping("pull", "source", &["order:new"], polling(&hourly())).await;
    app.elapse(LATER).await;
    eventually("it is asked", async || source.asked().len() == 1).await;
    app.elapse(LATER).await;
    eventually("the next moment has passed", async || ticks(&app).await == (2, 1)).await;
    source.release();
    eventually("the first poll is done", async || unfinished(&app).await == 0).await;
    // Other messages of the mapping are no polls.
    source.follow(|asked| {
        if asked.json()["message"] == "order:new" {
            asked.acknowledge(json!({ "delay": 3600 }))
        } else {
            asked.acknowledge(json!({}))
        }
    });
    app.tell("order:new", json!({})).await;
    app.elapse(LATER).await;
    eventually("the third moment makes one again", async || ticks(&app).await == (3, 2)).await;
    let polls = || source.asked().iter().filter(|asked| asked.json()["message"] == "orders:poll").count();
    eventually("it is polled again", async || polls() == 2).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_not_made_up_for() {
    let source = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    app.elapse(HOUR * 26 + Duration::from_mins(20)).await;
    eventually("it fires", async || ticks(&app).await == (1, 1)).await;
    let mut db = app.connect().await;
    let minutes: i32 =
        sqlx::query_scalar("SELECT round(extract(epoch FROM next_at - now()) / 60)::int FROM schedules")
            .fetch_one(&mut db)
            .await
            .unwrap();
    // Twenty minutes of the hour have passed: the interval does not drift.
    assert!((38..=40).contains(&minutes), "{minutes}");
    assert_eq!(messages(&app).await.len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_is_off_or_deleted_does_not_fire() {
    let source = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    let first = next_tick(&app).await;
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    assert_eq!(next_tick(&app).await, first, "put again as it was, it goes on");
    let mut off = polling(&hourly());
    off["enabled"] = json!(false);
    app.mapping("pull", "source", &[], off).await;
    assert_eq!(next_tick(&app).await, Value::Null);
    let mut db = app.connect().await;
    // As if it had fired while it was switched off.
    let due = "UPDATE schedules SET next_at = now() - interval '1 hour'";
    sqlx::query(due).execute(&mut db).await.unwrap();
    app.mapping("marker", "source", &[], polling(&json!({ "every": "1s", "message": "marker:poll" }))).await;
    eventually("another one fires", async || ticks(&app).await.0 > 0).await;
    assert!(messages(&app).await.iter().all(|key| key == "marker:poll"));
    sqlx::query("UPDATE schedules SET next_at = NULL FROM mappings WHERE id = owner AND NOT enabled")
        .execute(&mut db)
        .await
        .unwrap();
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    assert_ne!(json(app.get(&format!("{STORE}/mappings")).await, 200).await[1]["next_tick"], Value::Null);
    app.delete(&format!("{STORE}/mappings/pull")).await;
    sqlx::query(due).execute(&mut db).await.unwrap();
    let before = ticks(&app).await.0;
    eventually("another one goes on", async || ticks(&app).await.0 > before + 1).await;
    assert!(messages(&app).await.iter().all(|key| key == "marker:poll"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_fire_a_moment_once() {
    let source = Scripted::agreeable().await;
    let first = TestApp::start().await;
    let second = TestApp::on(first.database.clone(), &[], |app| app).await;
    first.endpoint("source", &source.url, json!({})).await;
    let count = 8;
    for number in 0..count {
        first.mapping(&format!("pull{number}"), "source", &[], polling(&hourly())).await;
    }
    for round in 1..=3 {
        first.elapse(LATER).await;
        eventually("all fire", async || ticks(&second).await.0 == count * round).await;
        eventually("all are delivered", async || unfinished(&second).await == 0).await;
    }
    assert_eq!(ticks(&first).await, (count * 3, count * 3));
    let count = usize::try_from(count).unwrap();
    assert_eq!(messages(&first).await.len(), count * 3);
    assert_eq!(source.asked().len(), count * 3);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_fires_by_the_clock_and_a_schedule_that_is_none_is_refused() {
    let source = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    let cron = json!({ "cron": "0 6 * * *", "timezone": "Europe/Berlin", "message": "orders:poll" });
    app.mapping("pull", "source", &[], polling(&cron)).await;
    let at = async || {
        let mut db = app.connect().await;
        let local = "SELECT to_char(next_at AT TIME ZONE 'Europe/Berlin', 'HH24:MI:SS.US') || (next_at > now()) || (next_at <= now() + interval '25 hours') FROM schedules";
        sqlx::query_scalar::<_, String>(local).fetch_one(&mut db).await.unwrap()
    };
    assert_eq!(at().await, "06:00:00.000000truetrue");
    app.elapse(Duration::from_hours(25)).await;
    eventually("it fires", async || ticks(&app).await == (1, 1)).await;
    assert_eq!(at().await, "06:00:00.000000truetrue");
    let refused = json!({ "endpoint": "source", "service": "poll", "schedule": { "cron": "0 6 30 2 *", "timezone": "Mars" } });
    let problem = json(app.put(&format!("{STORE}/mappings/pull"), &refused).await, 422).await;
    let found = crate::support::answer::violations(&problem);
    let expected =
        [("/schedule", "required"), ("/schedule/cron", "cron"), ("/schedule/timezone", "timezone")];
    assert_eq!(found, expected);
    app.stop().await;
}

/// Makes 2,000 more of what is there by `statement`, and has every process look.
async fn multiply(app: &TestApp, statement: &'static str) {
    let mut db = app.connect().await;
    sqlx::query(statement).execute(&mut db).await.unwrap();
    sqlx::query("UPDATE catalog SET revision = revision + 1").execute(&mut db).await.unwrap();
    sqlx::query("NOTIFY postrider_postrider").execute(&mut db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_one_minute_fire_in_a_few_transactions() {
    let source = Scripted::start(|asked| asked.acknowledge(json!({})).held()).await;
    let app = TestApp::start().await;
    app.endpoint("source", &source.url, json!({})).await;
    app.mapping("pull", "source", &[], polling(&hourly())).await;
    let more = "WITH made AS (
            INSERT INTO series (lane) SELECT endpoint_id FROM mappings, generate_series(1, 2000) RETURNING id
        ),
        mapped AS (
            INSERT INTO mappings (id, store_id, name, endpoint_id, definition, version)
            SELECT made.id, store_id, name || made.id, endpoint_id, definition, revision + 1
            FROM mappings, catalog, made
        )
        INSERT INTO schedules (kind, owner, next_at) SELECT 'mapping', id, now() - interval '1 minute' FROM made";
    multiply(&app, more).await;
    eventually("the mappings fire", async || ticks(&app).await == (2000, 2000)).await;
    let mut db = app.connect().await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM ticks";
    let count: i64 = sqlx::query_scalar(transactions).fetch_one(&mut db).await.unwrap();
    assert!(count <= 20, "{count} transactions");
    source.release();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_pollers_of_one_minute_are_queued_in_a_few_transactions() {
    let source = Scripted::start(|asked| asked.acknowledge(json!({})).held()).await;
    let app = TestApp::start().await;
    let poller = json!({
        "api": source.url, "token": "secret", "token_header": "X-Spree-Token", "every": "1h",
        "collections": [{ "name": "orders", "id": "number", "updated": "updated_at", "key": "order" }]
    });
    json(app.put(&format!("{STORE}/pollers/shop"), &poller).await, 201).await;
    let more = "WITH lane AS (INSERT INTO lanes (kind) SELECT 'poller' FROM generate_series(1, 2000) RETURNING id),
        made AS (
            INSERT INTO pollers (id, store_id, name, definition, token, key_id, version)
            SELECT lane.id, store_id, name || lane.id, definition, token, key_id, revision + 1
            FROM pollers, catalog, lane
        )
        INSERT INTO schedules (kind, owner, next_at) SELECT 'poller', id, now() - interval '1 minute' FROM lane";
    multiply(&app, more).await;
    let mut db = app.connect().await;
    let due = "SELECT count(*) FROM schedules WHERE next_at < now()";
    eventually("the pollers are queued", async || {
        sqlx::query_scalar::<_, i64>(due).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM pollers WHERE queued";
    let count: i64 = sqlx::query_scalar(transactions).fetch_one(&mut db).await.unwrap();
    assert!(count <= 20, "{count} transactions");
    source.release();
    app.stop().await;
}

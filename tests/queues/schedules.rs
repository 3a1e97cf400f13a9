//! Schedules of queues: messages that come by themselves, each moment once; what becomes of those that come late, or too
//! soon after the one before.

use crate::support::answer::{json, refusal};
use crate::support::app::TestApp;
use crate::support::eventually;
use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use std::time::Duration;

pub(super) const HOUR: Duration = Duration::from_hours(1);

/// An hourly schedule whose message says `of`, with more members.
pub(super) fn hourly(of: &str, more: Value) -> Value {
    let mut schedule = json!({ "every": "1h", "message": { "of": of } });
    let Value::Object(more) = more else { panic!("no members: {more}") };
    schedule.as_object_mut().unwrap().extend(more);
    schedule
}

pub(super) async fn put(app: &TestApp, name: &str, schedule: &Value) {
    json(app.put(&format!("/queues/q/schedules/{name}"), schedule).await, 201).await;
}

pub(super) async fn read(app: &TestApp, name: &str) -> Value {
    json(app.get(&format!("/queues/q/schedules/{name}")).await, 200).await
}

/// Which schedules the messages of the queue are of, in the order of their names.
pub(super) async fn pushed(app: &TestApp) -> Vec<String> {
    let page = json(app.get("/queues/q/messages?limit=500").await, 200).await;
    let messages = page["messages"].as_array().unwrap().iter();
    let mut of: Vec<String> =
        messages.map(|message| message["request"]["of"].as_str().unwrap().to_owned()).collect();
    of.sort();
    of
}

/// How many moments of a schedule came to this.
pub(super) async fn ticks(db: &mut PgConnection, name: &str, outcome: &str) -> i64 {
    let count = "SELECT count(*) FROM ticks JOIN queue_schedules AS s ON s.id = owner AND kind = 'queue'
        WHERE s.name = $1 AND outcome = $2";
    sqlx::query_scalar(count).bind(name).bind(outcome).fetch_one(db).await.unwrap()
}

fn moment(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("no moment: {value}")).parse().unwrap()
}

/// In how many minutes a schedule fires, by the database's clock.
async fn minutes_ahead(app: &TestApp, name: &str) -> i64 {
    let next = moment(&read(app, name).await["state"]["next_run"]);
    let mut db = app.connect().await;
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut db).await.unwrap();
    (next - now).num_minutes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_pushes_its_message_as_it_stands_and_says_how_it_does() {
    let app = TestApp::start().await;
    app.define_javascript("q", "module.exports = async (message) => message.n;").await;
    let text = r#"{"every":"1h","message":{"of":"s","n": 1.0,"s":"\u00e9","n":1}}"#;
    let made = app.request(Method::PUT, "/queues/q/schedules/s").header("content-type", "application/json");
    json(made.body(text).send().await.unwrap(), 201).await;
    let state = read(&app, "s").await["state"].clone();
    assert_eq!((&state["last_run"], &state["last_message"]), (&json!(null), &json!(null)));
    assert!((58..=60).contains(&minutes_ahead(&app, "s").await));
    app.elapse(HOUR).await;
    eventually("it fires", async || read(&app, "s").await["state"]["last_message"].is_string()).await;
    let state = read(&app, "s").await["state"].clone();
    let id = state["last_message"].as_str().unwrap();
    let message = app.ended("q", id).await;
    assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), &json!(1)));
    let mut db = app.connect().await;
    let request: String =
        sqlx::query_scalar("SELECT request::text FROM messages").fetch_one(&mut db).await.unwrap();
    assert_eq!(request, r#"{"of":"s","n": 1.0,"s":"\u00e9","n":1}"#);
    assert!((58..=60).contains(&minutes_ahead(&app, "s").await));
    assert!(state["last_run"].is_string());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_with_the_priority_of_its_queue_and_is_counted_among_its_pushes() {
    let app = TestApp::start().await;
    app.define("q", json!({ "options": { "priority": 7 } })).await;
    put(&app, "s", &hourly("s", json!({ "at_start": true }))).await;
    eventually("it fires", async || pushed(&app).await.len() == 1).await;
    let mut db = app.connect().await;
    let rank: i16 = sqlx::query_scalar("SELECT rank FROM dispatch").fetch_one(&mut db).await.unwrap();
    assert_eq!(rank, -7);
    let metrics = crate::support::answer::text(app.get("/metrics").await, 200).await;
    assert!(metrics.contains("postrider_schedule_runs_total{kind=\"queue\",outcome=\"fired\"}"), "{metrics}");
    assert!(metrics.contains("postrider_schedule_delay_seconds_count{kind=\"queue\"}"), "{metrics}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_begins_at_the_start_fires_at_once_and_not_again_while_it_stays_what_it_is() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    let schedule = hourly("s", json!({ "at_start": true }));
    put(&app, "s", &schedule).await;
    eventually("it fires", async || pushed(&app).await == ["s"]).await;
    let first = read(&app, "s").await["state"]["next_run"].clone();
    json(app.put("/queues/q/schedules/s", &schedule).await, 200).await;
    // Another message, and another word about overlaps: it goes on all the same.
    let other = hourly("other", json!({ "at_start": true, "overlap": "skip" }));
    json(app.put("/queues/q/schedules/s", &other).await, 200).await;
    assert_eq!(read(&app, "s").await["state"]["next_run"], first);
    let off = hourly("other", json!({ "at_start": true, "enabled": false }));
    json(app.put("/queues/q/schedules/s", &off).await, 200).await;
    assert_eq!(read(&app, "s").await["state"]["next_run"], json!(null));
    json(app.put("/queues/q/schedules/s", &hourly("on", json!({ "at_start": true }))).await, 200).await;
    eventually("it begins anew", async || pushed(&app).await == ["on", "s"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_switched_off_does_not_fire_though_its_moment_were_there() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "off", &hourly("off", json!({ "enabled": false }))).await;
    put(&app, "marker", &json!({ "every": "1s", "message": { "of": "marker" } })).await;
    let mut db = app.connect().await;
    let due = "UPDATE schedules SET next_at = now() - interval '1 second'";
    sqlx::query(due).execute(&mut db).await.unwrap();
    eventually("the marker fires twice", async || ticks(&mut db, "marker", "fired").await > 1).await;
    assert_eq!(ticks(&mut db, "off", "fired").await, 0);
    assert_eq!(read(&app, "off").await["state"]["next_run"], json!(null));
    app.stop().await;
}

/// Has a moment of a schedule come now.
pub(super) async fn due(app: &TestApp, name: &str) {
    let mut db = app.connect().await;
    let due = "UPDATE schedules SET next_at = clock_timestamp()
        WHERE kind = 'queue' AND owner = (SELECT id FROM queue_schedules WHERE name = $1)";
    sqlx::query(due).bind(name).execute(&mut db).await.unwrap();
    let look = "UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider";
    sqlx::raw_sql(look).execute(&mut db).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_overlaps_are_skipped_a_moment_makes_no_second_message_until_the_first_has_ended() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    put(&app, "allow", &hourly("allow", json!({}))).await;
    for fired in 1..=2 {
        due(&app, "allow").await;
        eventually("it fires", async || ticks(&mut db, "allow", "fired").await == fired).await;
    }
    assert_eq!(pushed(&app).await, ["allow", "allow"]);
    json(app.put("/queues/q/schedules", &json!({ "schedules": {} })).await, 200).await;

    put(&app, "skip", &hourly("skip", json!({ "overlap": "skip" }))).await;
    due(&app, "skip").await;
    eventually("it fires", async || ticks(&mut db, "skip", "fired").await == 1).await;
    due(&app, "skip").await;
    eventually("it waits: skipped", async || ticks(&mut db, "skip", "overlapped").await == 1).await;
    // It runs: that is no end either.
    let all = json(app.post("/queues/q/claim?max=10", &json!({})).await, 200).await;
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 3);
    due(&app, "skip").await;
    eventually("it runs: skipped", async || ticks(&mut db, "skip", "overlapped").await == 2).await;
    for message in all {
        let end = json!({ "lease": message["lease"], "result": null });
        let id = message["id"].as_str().unwrap();
        let ended = app.post(&format!("/queues/q/messages/{id}/complete"), &end).await;
        assert_eq!(ended.status(), 204);
    }
    due(&app, "skip").await;
    eventually("it has ended: it fires", async || ticks(&mut db, "skip", "fired").await == 2).await;
    app.stop().await;
}

/// A transaction that holds the rows of all schedules, as a firing and a PUT do.
pub(super) async fn holding(app: &TestApp) -> PgConnection {
    let mut db = app.connect().await;
    sqlx::raw_sql("BEGIN; SELECT FROM schedules FOR NO KEY UPDATE").execute(&mut db).await.unwrap();
    db
}

/// Waits until so many wait for a lock.
pub(super) async fn stopped(app: &TestApp, many: i64) {
    let mut db = app.connect().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("they wait", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut db).await.unwrap() == many
    })
    .await;
}

/// Takes the server away for a little more than a day, as the database sees it.
pub(super) async fn off_for_a_day(app: TestApp) -> TestApp {
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    let passed = "UPDATE schedules SET next_at = next_at - interval '26 hours 20 minutes'";
    sqlx::query(passed).execute(&mut db).await.unwrap();
    TestApp::on(database, &[], |app| app).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_off_for_a_day_makes_up_for_what_it_missed_once_or_not_at_all() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "skip", &hourly("skip", json!({}))).await;
    put(&app, "once", &hourly("once", json!({ "missed": "run_once" }))).await;
    let app = off_for_a_day(app).await;
    let mut db = app.connect().await;
    eventually("one is made up for", async || ticks(&mut db, "once", "fired").await == 1).await;
    eventually("one is not", async || ticks(&mut db, "skip", "missed").await == 1).await;
    assert_eq!(pushed(&app).await, ["once"]);
    for name in ["skip", "once"] {
        // They go on in step: of the hour twenty minutes have passed.
        let ahead = minutes_ahead(&app, name).await;
        assert!((37..=40).contains(&ahead), "{name}: {ahead}");
    }
    app.elapse(Duration::from_mins(40)).await;
    eventually("both go on", async || pushed(&app).await == ["once", "once", "skip"]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_just_now_is_not_missed_by_who_comes_back_for_it() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({}))).await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    let just_now = "UPDATE schedules SET next_at = now() - interval '24 hours 5 seconds'";
    sqlx::query(just_now).execute(&mut db).await.unwrap();
    let app = TestApp::on(database, &[], |app| app).await;
    eventually("it fires", async || ticks(&mut db, "s", "fired").await == 1).await;
    assert_eq!(ticks(&mut db, "s", "missed").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_clock_was_set_back_moments_are_worked_out_anew() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({}))).await;
    let mut db = app.connect().await;
    let ahead =
        "UPDATE schedules SET next_at = now() + interval '40 days', set_at = now() + interval '40 days';
        UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider";
    sqlx::raw_sql(ahead).execute(&mut db).await.unwrap();
    eventually("it fires within the hour", async || minutes_ahead(&app, "s").await <= 60).await;
    assert_eq!(pushed(&app).await, Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_takes_its_schedules_along() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({ "at_start": true }))).await;
    eventually("it fires", async || pushed(&app).await == ["s"]).await;
    assert_eq!(app.delete("/queues/q").await.status(), 204);
    let mut db = app.connect().await;
    let left = "SELECT (SELECT count(*) FROM queue_schedules) + (SELECT count(*) FROM schedules)
        + (SELECT count(*) FROM ticks)";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut db).await.unwrap();
    assert_eq!(left, 0);
    refusal(app.get("/queues/q/schedules").await, 404).await;
    app.define("q", json!({})).await;
    assert_eq!(json(app.get("/queues/q/schedules").await, 200).await, json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_queues_schema_no_longer_allows_ends_in_error() {
    let app = TestApp::start().await;
    let handler = json!({ "kind": "javascript", "source": "module.exports = async () => 1;" });
    app.define("q", json!({ "handler": handler })).await;
    put(&app, "s", &hourly("s", json!({}))).await;
    let schema = json!({ "required": ["more"] });
    app.define("q", json!({ "handler": handler, "incoming": { "schema": schema } })).await;
    refusal(app.post("/queues/q/schedules/s/run", &json!({})).await, 422).await;
    app.elapse(HOUR).await;
    eventually("it fires", async || read(&app, "s").await["state"]["last_message"].is_string()).await;
    let id = read(&app, "s").await["state"]["last_message"].as_str().unwrap().to_owned();
    assert_eq!(app.ended("q", &id).await["status"], "ERROR");
    app.stop().await;
}

//! What is told of schedules of queues: by the report, by the doctor and by the metrics.

use super::schedules::{HOUR, due, hourly, off_for_a_day, put, ticks};
use crate::support::answer::{json, text};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

/// What the report says of a schedule.
async fn reported(app: &TestApp, name: &str) -> Value {
    let rows = json(app.get("/reports/schedule_runs").await, 200).await;
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["schedule"] == name).unwrap().clone()
}

/// How many moments fired, overlapped, were missed and came by hand, as the report says.
fn counts(row: &Value) -> [i64; 4] {
    ["fired", "overlapped", "missed", "by_hand"].map(|of| row[of].as_i64().unwrap())
}

async fn doctor_says(database: &PgConnectOptions, lines: &[&str]) {
    let doctor = crate::commands::run(database, &["doctor"]).await;
    for line in lines {
        assert!(doctor.out.contains(line), "{line}\n{}", doctor.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_and_the_doctor_tell_what_came_what_did_not_and_what_is_late() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({ "overlap": "skip" }))).await;
    put(&app, "off", &hourly("off", json!({ "enabled": false }))).await;
    json(app.post("/queues/q/schedules/s/run", &json!({})).await, 201).await;
    let mut db = app.connect().await;
    app.elapse(HOUR).await;
    eventually("its moment passes", async || ticks(&mut db, "s", "overlapped").await == 1).await;
    let (s, off) = (reported(&app, "s").await, reported(&app, "off").await);
    assert_eq!(counts(&s), [0, 1, 0, 1]);
    assert!(s["why"].as_str().unwrap().contains("longer than its period"), "{s}");
    assert_eq!((counts(&off), &off["why"]), ([0; 4], &json!("it is switched off")));
    let database = app.database.clone();
    app.stop().await;
    let late = "UPDATE schedules SET next_at = now() - interval '2 minutes' WHERE next_at IS NOT NULL;
        UPDATE ticks SET outcome = 'missed', item = NULL";
    sqlx::raw_sql(late).execute(&mut db).await.unwrap();
    doctor_says(
        &database,
        &["warn  1 schedules are overdue: q/s", "warn  schedules missed their moments 2 times"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_was_there_for_more_than_a_day_ago_is_told_once_somebody_is() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({}))).await;
    let app = off_for_a_day(app).await;
    let mut db = app.connect().await;
    eventually("its moment is seen to", async || ticks(&mut db, "s", "missed").await == 1).await;
    let row = reported(&app, "s").await;
    assert_eq!(counts(&row), [0, 0, 1, 0]);
    assert!(row["why"].as_str().unwrap().contains("no server was there"), "{row}");
    let database = app.database.clone();
    app.stop().await;
    doctor_says(&database, &["warn  schedules missed their moments 1 times in the last day"]).await;
}

/// How many rows of `ticks`, and entries of its indexes, all processes have read.
async fn ticks_read(db: &mut PgConnection) -> i64 {
    let read = "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0) + (
            SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes AS i WHERE i.relid = t.relid
        ))::bigint
        FROM pg_stat_user_tables AS t WHERE schemaname = 'postrider' AND relname = 'ticks'";
    sqlx::query_scalar(read).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_reads_no_day_of_moments_to_tell_how_many_were_missed() {
    let app = TestApp::start().await;
    app.define("q", json!({})).await;
    put(&app, "s", &hourly("s", json!({ "enabled": false }))).await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    let day = "INSERT INTO ticks (kind, owner, at, fired_at, outcome)
        SELECT kind, owner, at, at, CASE WHEN n % 5000 = 0 THEN 'missed' ELSE 'fired' END
        FROM schedules, generate_series(1, 20000) AS n,
            LATERAL (SELECT now() - n * interval '4 seconds' AS at) AS moment;
        ANALYZE ticks";
    sqlx::raw_sql(day).execute(&mut db).await.unwrap();
    // A process says what it has read once it is gone.
    drop(db);
    let mut db = PgConnection::connect_with(&database).await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let alone = async |db: &mut PgConnection| {
        eventually("all others are gone", async || {
            sqlx::query_scalar::<_, i64>(others).fetch_one(&mut *db).await.unwrap() == 0
        })
        .await;
    };
    alone(&mut db).await;
    let before = ticks_read(&mut db).await;
    doctor_says(&database, &["warn  schedules missed their moments 4 times in the last day"]).await;
    alone(&mut db).await;
    let read = ticks_read(&mut db).await - before;
    assert!((4..100).contains(&read), "{read} rows read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_whose_commit_fails_is_counted_among_the_pushes_once_it_is_there() {
    let app = TestApp::start().await;
    let of = "fired_and_counted";
    app.define(of, json!({})).await;
    json(app.put(&format!("/queues/{of}/schedules/s"), &hourly("s", json!({}))).await, 201).await;
    let mut db = app.connect().await;
    let fails = "CREATE SEQUENCE commits;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM nextval('commits');
            RAISE 'no commit';
        END $$;
        CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON ticks DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail()";
    sqlx::raw_sql(fails).execute(&mut db).await.unwrap();
    due(&app, "s").await;
    let failed = "SELECT is_called FROM commits";
    eventually("its commit fails", async || sqlx::query_scalar(failed).fetch_one(&mut db).await.unwrap())
        .await;
    sqlx::query("DROP TRIGGER fails ON ticks").execute(&mut db).await.unwrap();
    eventually("it fires", async || ticks(&mut db, "s", "fired").await == 1).await;
    let counted = format!("postrider_messages_pushed_total{{queue=\"{of}\"}}");
    eventually("it is counted", async || text(app.get("/metrics").await, 200).await.contains(&counted)).await;
    let told = text(app.get("/metrics").await, 200).await;
    assert!(told.lines().any(|line| line == format!("{counted} 1")), "{told}");
    app.stop().await;
}

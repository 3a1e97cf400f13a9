//! What is left of the hub when weeks go: what is still wanted.

use super::stage::STORE;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use crate::support::weeks::{make_week, past_weeks, tidier, untidy};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Does something to the database that no route does.
pub(super) async fn act(db: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await.unwrap();
}

/// The single value that a question has.
async fn ask<T>(db: &mut PgConnection, question: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(db).await.unwrap()
}

/// Makes the week that begins on this Monday of the past, with a message in it; returns that.
async fn past_week(app: &TestApp, monday: &str, state: &str) -> Uuid {
    let mut db = app.connect().await;
    make_week(&mut db, "hub", monday).await;
    let message = format!(
        "INSERT INTO hub_messages (store_id, state, id, message, payload)
        SELECT id, '{state}', uuid_v7(timestamptz '{monday}' + interval '1 day'), 'order:new', '{{}}' FROM stores
        RETURNING id"
    );
    sqlx::query_scalar(AssertSqlSafe(message)).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_go_when_they_are_old_and_what_is_wanted_outlives_them() {
    let warehouse = Scripted::agreeable().await;
    let app = untidy(|app| app).await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({ "enabled": false })).await;
    let done = past_week(&app, "2020-03-02 00:00+00", "routed").await;
    let pending = past_week(&app, "2021-03-08 00:00+00", "pending").await;
    let held = past_week(&app, "2022-03-07 00:00+00", "routed").await;
    let parked = past_week(&app, "2023-03-06 00:00+00", "routed").await;
    let late = past_week(&app, "2024-03-04 00:00+00", "routed").await;
    let mut db = app.connect().await;
    // The delivery of the third is younger than its message: of today.
    act(
        &mut db,
        &format!(
            "INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at)
            SELECT store_id, id, uuid_v7('2020-03-04'), '{done}', 'COMPLETE', timestamptz '2020-03-05' FROM mappings;
            WITH held AS (
                INSERT INTO deliveries (store_id, mapping_id, id, message_id, apart)
                SELECT store_id, id, uuid_v7(), '{held}', true FROM mappings
                RETURNING mapping_id, id
            )
            INSERT INTO held_deliveries (mapping_id, delivery_id) SELECT mapping_id, id FROM held;
            WITH parked AS (
                INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at, last_error, parked_by)
                SELECT
                    store_id, id, uuid_v7('2023-03-08'), '{parked}', 'ERROR', timestamptz '2023-03-08', 'no', 'max_age'
                FROM mappings
                RETURNING id
            )
            INSERT INTO delivery_attempts (number, verdict, id, lease, started_at, duration, endpoint_id, error)
            SELECT 1, 'failed', id, gen_random_uuid(), '2023-03-08', '1s', 1, 'no' FROM parked;
            INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at, late)
            SELECT store_id, id, uuid_v7('2024-03-06'), '{late}', 'COMPLETE', now() - interval '29 days', true
            FROM mappings"
        ),
    )
    .await;
    let status = async |id: Uuid| app.get(&format!("{STORE}/messages/{id}")).await.status().as_u16();
    let all = async || {
        let mut all = Vec::new();
        for id in [done, pending, held, parked, late] {
            all.push(status(id).await);
        }
        all
    };
    assert_eq!((past_weeks(&mut db).await, all().await), (5, vec![200; 5]));
    let first = tidier(&app).await;
    eventually("every week goes", async || past_weeks(&mut db).await == 0).await;
    assert_eq!(all().await, [404, 200, 200, 200, 200]);
    let message = app.told(&parked.to_string()).await;
    assert_eq!(message["deliveries"][0]["status"], "ERROR");
    assert_eq!(app.attempts(&message).await.len(), 1, "its attempts came with it");
    first.stop().await;

    // What was held is sent after years, and stays as long as its delivery.
    act(&mut db, "UPDATE hub_messages SET state = 'unrouted' WHERE state = 'pending'").await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    app.delivered(&held.to_string(), "COMPLETE").await;
    assert_eq!(warehouse.asked()[0].id(), held.to_string());
    act(&mut db, "UPDATE deliveries SET finished_at = now() - interval '31 days' WHERE late").await;
    let second = tidier(&app).await;
    eventually("what is not wanted any more goes", async || all().await == [404, 404, 200, 200, 404]).await;
    second.stop().await;
    // What is parked stays for years, until somebody decides.
    act(&mut db, "UPDATE deliveries SET archived_at = now() WHERE parked").await;
    act(&mut db, "DELETE FROM deliveries WHERE apart").await;
    let third = tidier(&app).await;
    eventually("nothing is left", async || all().await == [404; 5]).await;
    let left =
        "SELECT (SELECT count(*) FROM deliveries_default) + (SELECT count(*) FROM delivery_attempts_default)";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    third.stop().await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_another_week_than_its_message_and_one_that_comes_late_know_it() {
    let warehouse = Scripted::agreeable().await;
    let app = untidy(|app| app).await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let today = app.tell("order:new", json!({})).await;
    app.delivered(&today, "COMPLETE").await;
    let marks =
        "SELECT string_agg(coalesce(apart, false)::text || coalesce(late, false)::text, ' ') FROM deliveries";
    let mut db = app.connect().await;
    assert_eq!(ask::<String>(&mut db, marks).await, "falsefalse");
    // A message that waited for weeks is routed today.
    act(
        &mut db,
        "DELETE FROM deliveries;
        WITH m AS (
            INSERT INTO hub_messages (store_id, state, id, message, payload)
            SELECT id, 'pending', uuid_v7(now() - interval '20 days'), 'order:new', '{}' FROM stores RETURNING id
        )
        INSERT INTO dispatch (lane, rank, item) SELECT lanes.id, 0, m.id FROM m JOIN lanes ON kind = 'router';
        NOTIFY postrider_postrider",
    )
    .await;
    eventually("it is delivered", async || warehouse.asked().len() == 2).await;
    assert_eq!(ask::<String>(&mut db, marks).await, "truefalse");
    app.server.run_until_idle().await.unwrap();
    // A delivery that was made days ago is delivered today.
    act(
        &mut db,
        "DELETE FROM deliveries;
        WITH d AS (
            INSERT INTO deliveries (store_id, mapping_id, id, message_id)
            SELECT m.store_id, mappings.id, uuid_v7(now() - interval '2 days'), m.id
            FROM hub_messages AS m, mappings ORDER BY m.id LIMIT 1
            RETURNING id
        )
        INSERT INTO dispatch (lane, rank, item) SELECT endpoints.id, 0, d.id FROM d, endpoints;
        NOTIFY postrider_postrider",
    )
    .await;
    eventually("it is delivered", async || ask::<String>(&mut db, marks).await == "falsetrue").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_forgotten_each_in_its_time() {
    let warehouse = Scripted::agreeable().await;
    let app = untidy(|app| app).await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    let mut db = app.connect().await;
    let rows = "
        INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id, created_at)
        SELECT id, days::text, 'x', uuid_v7(), now() - make_interval(days => days)
        FROM stores CROSS JOIN unnest(ARRAY[29, 31]) AS days;
        INSERT INTO delivered_identifiers (mapping_id, digest, delivery_id, created_at)
        SELECT id, days::text::bytea, uuid_v7(), now() - make_interval(days => days)
        FROM mappings CROSS JOIN unnest(ARRAY[31, 89, 91]) AS days;
        INSERT INTO log_entries (store_id, level, subject, digest, first_seen, last_seen)
        SELECT id, 'info', first || ' ' || last, (first || ' ' || last)::bytea, now() - make_interval(days => first),
            now() - make_interval(days => last)
        FROM stores CROSS JOIN (VALUES (29, 29), (31, 29), (31, 31)) AS seen (first, last);
        INSERT INTO hub_descendants (root_id, count, created_at, last_at)
        SELECT uuid_v7(), 1, now() - make_interval(days => first), now() - make_interval(days => last)
        FROM (VALUES (29, 29), (31, 29), (31, 31)) AS counted (first, last);
        INSERT INTO schedules (kind, owner) SELECT 'mapping', id FROM mappings;
        INSERT INTO ticks (kind, owner, at, fired_at, outcome)
        SELECT 'mapping', id, now() - make_interval(days => came), now() - make_interval(days => seen), 'fired'
        FROM mappings CROSS JOIN (VALUES (6, 6), (9, 6), (8, 8)) AS moments (came, seen)";
    act(&mut db, rows).await;
    let left = "SELECT
        (SELECT string_agg(key, ' ' ORDER BY key) FROM hub_idempotency_keys) || '; '
        || (SELECT string_agg(convert_from(digest, 'UTF8'), ' ' ORDER BY digest) FROM delivered_identifiers) || '; '
        || (SELECT string_agg(subject, ', ' ORDER BY subject) FROM log_entries) || '; '
        || (SELECT count(*) FROM ticks) || '; ' || (SELECT count(*) FROM hub_descendants)";
    assert_eq!(ask::<String>(&mut db, left).await, "29 31; 31 89 91; 29 29, 31 29, 31 31; 3; 3");
    let tidier = tidier(&app).await;
    eventually("what is old goes", async || {
        ask::<String>(&mut db, left).await == "29; 31 89; 29 29, 31 29; 2; 2"
    })
    .await;
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_mapping_is_forgotten_with_the_last_of_its_deliveries() {
    let app = untidy(|app| app).await;
    app.endpoint("warehouse", "http://127.0.0.1:1", json!({ "enabled": false })).await;
    for name in ["of_a_week", "parked", "lives"] {
        app.mapping(name, "warehouse", &["order:*"], json!({})).await;
    }
    for name in ["of_a_week", "parked"] {
        assert_eq!(app.delete(&format!("{STORE}/mappings/{name}")).await.status(), 204);
    }
    let mut db = app.connect().await;
    let parked = "
        UPDATE mappings SET deleted_at = '2020-03-05' WHERE deleted_at IS NOT NULL;
        INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at, last_error, parked_by)
        SELECT
            store_id, id, uuid_v7('2019-03-08'), uuid_v7('2019-03-08'), 'ERROR', timestamptz '2019-03-08', 'no', 'max_age'
        FROM mappings
        WHERE name = 'parked'";
    act(&mut db, parked).await;
    // The week in which it was deleted is still there: somebody reads it.
    past_week(&app, "2020-03-02 00:00+00", "routed").await;
    let mut reader = app.connect().await;
    act(&mut reader, "BEGIN; LOCK TABLE deliveries_2020_10 IN ACCESS SHARE MODE").await;
    let left = "SELECT string_agg(name, ' ' ORDER BY id) FROM mappings";
    let looked = "SELECT count(*) FROM weeks WHERE state = 'leaving'";
    let first = tidier(&app).await;
    eventually("it was looked at", async || ask::<i64>(&mut db, looked).await == 1).await;
    first.stop().await;
    assert_eq!(ask::<String>(&mut db, left).await, "of_a_week parked lives");
    act(&mut reader, "COMMIT").await;
    let second = tidier(&app).await;
    eventually("one goes", async || ask::<String>(&mut db, left).await == "parked lives").await;
    second.stop().await;
    act(&mut db, "UPDATE deliveries SET archived_at = now()").await;
    let third = tidier(&app).await;
    eventually("the other goes", async || ask::<String>(&mut db, left).await == "lives").await;
    third.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_poller_leaves_nothing_of_what_it_has_seen() {
    let app = TestApp::start().await;
    let poller = json!({ "api": "http://127.0.0.1:1", "every": "1h", "enabled": false });
    assert_eq!(app.put(&format!("{STORE}/pollers/shop"), &poller).await.status(), 201);
    let mut db = app.connect().await;
    let seen = "
        INSERT INTO poller_snapshots (poller_id, collection, record_id, record)
        SELECT id, 'orders', n::text, '{}' FROM pollers, generate_series(1, 10) AS n;
        INSERT INTO poller_bookmarks (poller_id, collection, since) SELECT id, 'orders', 'x' FROM pollers";
    act(&mut db, seen).await;
    assert_eq!(app.delete(&format!("{STORE}/pollers/shop")).await.status(), 204);
    let left = "SELECT (SELECT count(*) FROM poller_snapshots) + (SELECT count(*) FROM poller_bookmarks)
        + (SELECT count(*) FROM lanes WHERE kind = 'poller')";
    assert_eq!(ask::<i64>(&mut db, left).await, 0);
    app.stop().await;
}

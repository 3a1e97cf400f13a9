//! What is left of the hub when weeks go: what is still wanted.

use super::stage::STORE;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
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

/// One more instance, which tidies up when it starts.
async fn tidier(app: &TestApp) -> TestApp {
    act(&mut app.connect().await, "UPDATE duties SET until = until - interval '1 day'").await;
    TestApp::on(app.database.clone(), &[], |app| app).await
}

/// Makes the week that begins on a day of the past, with a message in it; gives that.
async fn past_week(app: &TestApp, suffix: &str, monday: &str, state: &str) -> Uuid {
    let mut db = app.connect().await;
    for table in ["hub_messages", "deliveries", "delivery_attempts"] {
        let statement = format!(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE {table}_{suffix} PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)', \
             uuid_v7_floor('{monday}'), uuid_v7_floor(timestamptz '{monday}' + interval '7 days')); END $$"
        );
        act(&mut db, &statement).await;
    }
    let message = format!(
        "INSERT INTO hub_messages (store_id, state, id, message, payload)
        SELECT id, '{state}', uuid_v7(timestamptz '{monday}' + interval '1 day'), 'order:new', '{{}}' FROM stores
        RETURNING id"
    );
    sqlx::query_scalar(AssertSqlSafe(message)).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_go_when_they_are_old_and_nothing_in_them_is_wanted() {
    let warehouse = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &warehouse.url, json!({})).await;
    app.mapping("ship", "warehouse", &["order:*"], json!({ "enabled": false })).await;
    let done = past_week(&app, "2020_10", "2020-03-02 00:00+00", "routed").await;
    let pending = past_week(&app, "2021_10", "2021-03-08 00:00+00", "pending").await;
    let held = past_week(&app, "2022_10", "2022-03-07 00:00+00", "routed").await;
    let mut db = app.connect().await;
    // The delivery of the last is younger than its message: of today.
    act(
        &mut db,
        &format!(
            "INSERT INTO deliveries (store_id, mapping_id, id, message_id, status, finished_at)
            SELECT store_id, id, uuid_v7('2020-03-04'), '{done}', 'COMPLETE', timestamptz '2020-03-05' FROM mappings;
            WITH held AS (
                INSERT INTO deliveries (store_id, mapping_id, id, message_id)
                SELECT store_id, id, uuid_v7(), '{held}' FROM mappings
                RETURNING mapping_id, id
            )
            INSERT INTO held_deliveries (mapping_id, delivery_id) SELECT mapping_id, id FROM held"
        ),
    )
    .await;
    let weeks = "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class \
                 WHERE relname ~ '^(hub_messages|deliveries|delivery_attempts)_202[012]_10$' AND relkind = 'r'";
    let of = |years: &[&str]| {
        let tables = ["deliveries", "delivery_attempts", "hub_messages"];
        let names =
            tables.iter().flat_map(|table| years.iter().map(move |year| format!("{table}_{year}_10")));
        names.collect::<Vec<_>>().join(" ")
    };
    let status = async |id: Uuid| app.get(&format!("{STORE}/messages/{id}")).await.status().as_u16();
    assert_eq!(
        (ask::<String>(&mut db, weeks).await, status(done).await),
        (of(&["2020", "2021", "2022"]), 200)
    );

    let first = tidier(&app).await;
    eventually("one week goes", async || ask::<String>(&mut db, weeks).await == of(&["2021", "2022"])).await;
    assert_eq!((status(done).await, status(pending).await, status(held).await), (404, 200, 200));
    first.stop().await;

    act(&mut db, "UPDATE hub_messages SET state = 'unrouted' WHERE state = 'pending'").await;
    let second = tidier(&app).await;
    eventually("the next one goes", async || ask::<String>(&mut db, weeks).await == of(&["2022"])).await;
    second.stop().await;

    // What was held is sent after years, and stays as long as anything that was sent just now.
    app.mapping("ship", "warehouse", &["order:*"], json!({})).await;
    app.delivered(&held.to_string(), "COMPLETE").await;
    assert_eq!(warehouse.asked()[0].id(), held.to_string());
    let third = tidier(&app).await;
    let kept = "SELECT count(*) FROM duties WHERE name = 'hub' AND until > now()";
    eventually("it was looked at", async || ask::<i64>(&mut db, kept).await == 1).await;
    third.stop().await;
    assert_eq!(ask::<String>(&mut db, weeks).await, of(&["2022"]));
    // What is parked stays for years, until somebody decides.
    act(
        &mut db,
        "UPDATE deliveries SET status = 'ERROR', last_error = 'no', finished_at = finished_at - interval '31 days'",
    )
    .await;
    let fourth = tidier(&app).await;
    eventually("it was looked at", async || ask::<i64>(&mut db, kept).await == 1).await;
    fourth.stop().await;
    assert_eq!(ask::<String>(&mut db, weeks).await, of(&["2022"]));
    act(&mut db, "UPDATE deliveries SET archived_at = now()").await;
    let fifth = tidier(&app).await;
    eventually("the last one goes", async || ask::<String>(&mut db, weeks).await == of(&[])).await;
    fifth.stop().await;
    let id = app.tell("order:new", json!({})).await;
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_are_forgotten_each_in_its_time() {
    let warehouse = Scripted::agreeable().await;
    let app = TestApp::start().await;
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
        INSERT INTO ticks (mapping_id, at)
        SELECT id, now() - make_interval(days => days) FROM mappings CROSS JOIN unnest(ARRAY[6, 8]) AS days";
    act(&mut db, rows).await;
    let left = "SELECT
        (SELECT string_agg(key, ' ' ORDER BY key) FROM hub_idempotency_keys) || '; '
        || (SELECT string_agg(convert_from(digest, 'UTF8'), ' ' ORDER BY digest) FROM delivered_identifiers) || '; '
        || (SELECT string_agg(subject, ', ' ORDER BY subject) FROM log_entries) || '; '
        || (SELECT count(*) FROM ticks)";
    assert_eq!(ask::<String>(&mut db, left).await, "29 31; 31 89 91; 29 29, 31 29, 31 31; 2");
    let tidier = tidier(&app).await;
    eventually("what is old goes", async || {
        ask::<String>(&mut db, left).await == "29; 31 89; 29 29, 31 29; 1"
    })
    .await;
    tidier.stop().await;
    app.stop().await;
}

//! Migrations go up and down, on empty and on filled tables, and every column says what it is for.

use crate::support::app::{TestApp, database};
use crate::support::server::server;
use postrider::internals::db::migrate::{MIGRATIONS, migrate, revert};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};

async fn objects(options: &PgConnectOptions) -> i64 {
    let mut db = options.connect().await.unwrap();
    let count = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'postrider'::regnamespace AND relname NOT LIKE '\\_sqlx%')
        + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'postrider'::regnamespace)
        + (SELECT count(*) FROM pg_type WHERE typnamespace = 'postrider'::regnamespace AND typtype = 'e')";
    sqlx::query(count).fetch_one(&mut db).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_go_up_and_down_and_up_again() {
    server().await.create_database("up_and_down", "template1").await;
    let options = server().await.connect_options("up_and_down");
    migrate(&options, "postrider").await.unwrap();
    let all = objects(&options).await;
    assert!(all > 20);
    for _ in MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()) {
        revert(&options, "postrider", true).await.unwrap();
    }
    assert_eq!(objects(&options).await, 0, "something is left behind");
    migrate(&options, "postrider").await.unwrap();
    assert_eq!(objects(&options).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_go_down_on_rows() {
    let app = TestApp::start().await;
    app.define_javascript(
        "q",
        "module.exports = async (m) => { if (m.fail) throw new Error('no'); return m; };",
    )
    .await;
    app.handled("q", &json!({})).await;
    app.handled("q", &json!({ "fail": true })).await;
    let jobs = "/place_card_on_single_site_jobs";
    app.post(jobs, &json!({ "cardholder_id": 1 })).await;
    app.post(&format!("{jobs}/claim"), &json!({})).await;
    let asked =
        app.post(&format!("/messages{jobs}/1/credential_requests"), &json!({ "type": "tfa_request" })).await;
    assert_eq!(asked.status(), 201);
    let options = app.database.clone();
    app.stop().await;
    for _ in MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()) {
        revert(&options, "postrider", true).await.unwrap();
    }
    assert_eq!(objects(&options).await, 0, "something is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_column_view_and_function_has_a_comment() {
    let mut db = database().await.connect().await.unwrap();
    let silent = "SELECT format('column %s.%s', c.relname, a.attname)
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'postrider'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname NOT LIKE '\\_sqlx%' AND a.attnum > 0 AND NOT a.attisdropped
            AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT format('%s', c.relname) FROM pg_class AS c
        WHERE c.relnamespace = 'postrider'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
            AND c.relname NOT LIKE '\\_sqlx%' AND obj_description(c.oid) IS NULL
        UNION ALL
        SELECT format('function %s', p.proname) FROM pg_proc AS p
        WHERE p.pronamespace = 'postrider'::regnamespace AND obj_description(p.oid) IS NULL";
    let silent: Vec<String> = sqlx::query_scalar(silent).fetch_all(&mut db).await.unwrap();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_database_in_schemas_of_their_own() {
    server().await.create_database("shared", "template1").await;
    let options = server().await.connect_options("shared");
    for schema in ["first", "second"] {
        migrate(&options, schema).await.unwrap();
    }
    let first = TestApp::on(options.clone(), &[("POSTRIDER_DATABASE_SCHEMA", "first")], |app| app).await;
    let second = TestApp::on(options, &[("POSTRIDER_DATABASE_SCHEMA", "second")], |app| app).await;
    first.define_javascript("q", "module.exports = async () => 'first';").await;
    assert_eq!(second.get("/queues/q").await.status(), 404);
    assert_eq!(first.handled("q", &json!({})).await["result"], "first");
    first.stop().await;
    second.stop().await;
}

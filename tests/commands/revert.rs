//! `postrider migrate --revert`: says what would go, and takes back nothing that is in use.

use super::run;
use crate::support::app::TestApp;
use crate::support::server::server;
use postrider::internals::db::migrate::MIGRATIONS;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::collections::BTreeSet;

async fn tables(db: &mut PgConnection) -> BTreeSet<String> {
    let tables = "SELECT relname::text FROM pg_class
        WHERE relnamespace = 'postrider'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition";
    sqlx::query_scalar(tables).fetch_all(db).await.unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_while_processes_live_and_while_rows_would_go_unless_told_to() {
    let app = TestApp::start().await;
    app.endpoint("away", "http://127.0.0.1:1", json!({})).await;
    let database = app.database.clone();
    let refused = run(&database, &["migrate", "--revert"]).await;
    assert!(!refused.ok && refused.out.contains("the table endpoints, with rows in it"), "{refused:?}");
    assert!(refused.err.contains("processes live") && refused.err.contains("--yes"), "{refused:?}");
    app.stop().await;
    let refused = run(&database, &["migrate", "--revert"]).await;
    assert!(!refused.ok && refused.err.contains("rows would be lost"), "{refused:?}");
    assert!(!refused.err.contains("processes live"), "{refused:?}");
    let mut db = database.connect().await.unwrap();
    db.execute("SELECT FROM postrider.endpoints").await.unwrap();
    let done = run(&database, &["migrate", "--revert", "--yes"]).await;
    assert!(done.ok && done.out.contains("took it back"), "{done:?}");
    assert!(!tables(&mut db).await.contains("endpoints"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_that_goes_is_named_and_no_other() {
    server().await.create_database("reverted", "template1").await;
    let database = server().await.connect_options("reverted");
    assert!(run(&database, &["migrate"]).await.ok);
    let mut db = database.connect().await.unwrap();
    let ups = MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()).count();
    for _ in 0..ups {
        let before = tables(&mut db).await;
        let done = run(&database, &["migrate", "--revert", "--yes"]).await;
        assert!(done.ok, "{done:?}");
        let named: BTreeSet<String> = done
            .out
            .lines()
            .filter_map(|line| line.trim().strip_prefix("the table "))
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect();
        let after = tables(&mut db).await;
        assert_eq!(named, before.difference(&after).cloned().collect());
    }
    let done = run(&database, &["migrate", "--revert"]).await;
    assert!(!done.ok && done.err.contains("no migration is applied"), "{done:?}");
    db.close().await.unwrap();
}

//! What PostgreSQL logs of our work.

use super::remote::{call, claim, start};
use crate::support::app::database;
use crate::support::eventually;
use crate::support::server::server;
use futures::future::poll_fn;
use postrider::internals::db::session::is_shared;
use postrider::internals::db::transaction;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use std::pin::pin;
use std::task::Poll;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_we_do_is_a_warning_in_postgresqls_log() {
    let app = start(json!({})).await;
    for n in 0..20 {
        app.push("q", &json!({ "n": n })).await;
        let [message] = claim(&app, "").await.try_into().unwrap();
        assert_eq!(call(&app, &message, "complete", json!({ "result": n })).await.status(), 204);
        app.whole_message("q", message["id"].as_str().unwrap()).await;
        assert_eq!(app.get("/queues/q/messages").await.status(), 200);
        assert_eq!(app.get("/queues/q/messages/none").await.status(), 404);
        assert_eq!(app.get("/reports/queue_depth").await.status(), 200);
        assert_eq!(app.get("/readyz").await.status(), 200);
    }
    app.stop().await;
    let log = server().await.log();
    assert!(log.contains("ready to accept connections"), "it is the server's log: {log}");
    // Whoever kills a server makes warnings; ours would be of a transaction that is not there, or is there already.
    let ours = log.lines().filter(|line| line.contains("] postrider ") && line.contains(" WARNING: "));
    let ours: Vec<&str> = ours.filter(|line| line.contains("transaction")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_while_it_looks_at_its_session_ends_no_transaction_twice() {
    let options = database().await.application_name("postrider cut off");
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
    // Wherever it waits, a listener may be told to stop.
    for waits in 0..120 {
        let (mut look, mut left) = (pin!(is_shared(&pool)), waits);
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            look.as_mut().poll(context).map(drop)
        })
        .await;
    }
    pool.close().await;
    let log = server().await.log();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains("] postrider cut off WARNING: ")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_commit_fails_is_not_ended_twice() {
    let options = database().await.application_name("postrider refused");
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    // The server may notice in time that the client has gone, and then says nothing.
    for _ in 0..50 {
        let refused = transaction(&pool, |tx| {
            Box::pin(async {
                let statements = "CREATE TEMP TABLE a (id int PRIMARY KEY);
                    CREATE TEMP TABLE b (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
                    INSERT INTO b VALUES (1)";
                sqlx::raw_sql(statements).execute(tx).await.map(drop)
            })
        })
        .await;
        let refused = refused.unwrap_err();
        assert!(
            refused.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation),
            "{refused}"
        );
    }
    // The place that it had in the pool is free again.
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    pool.close().await;
    let mut db = PgConnection::connect_with(&database().await).await.unwrap();
    eventually("the server has heard all of it", async || {
        let open =
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'postrider refused')";
        sqlx::query_scalar(open).fetch_one(&mut db).await.unwrap()
    })
    .await;
    let log = server().await.log();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains("] postrider refused WARNING: ")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

//! What remote workers cost the database does not grow with what they have done, nor with what they hold.

use super::remote::{call, claim, start};
use crate::support::answer::text;
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// Asks once every session of the server has ended, and so has told what it read.
async fn read_by(database: &PgConnectOptions, question: &str) -> i64 {
    let mut db =
        PgConnection::connect_with(&database.clone().options([("search_path", "postrider")])).await.unwrap();
    eventually("the sessions have ended", async || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'postrider %'";
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_one(&mut db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_do_not_walk_what_was_claimed_since_an_old_transaction_began() {
    const PAST: i64 = 200_000;
    const CLAIMS: i64 = 100;
    for options in [json!({}), json!({ "concurrency": 3 })] {
        let app = start(options).await;
        let mut old = app.connect().await;
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM messages").await.unwrap();
        let mut db = app.connect().await;
        // As if they had been pushed, claimed and completed since.
        let past = format!(
            "INSERT INTO dispatch (lane, rank, item)
                SELECT (SELECT id FROM queues), 0, gen_random_uuid() FROM generate_series(1, {PAST});
            DELETE FROM dispatch;
            INSERT INTO leases (expires_at, lease, holder, lane, ranks, items, attempts)
                SELECT now() - interval '1 hour', '1 hour', 'past', (SELECT id FROM queues), '{{0}}', ARRAY[gen_random_uuid()], '{{1}}'
                FROM generate_series(1, {PAST});
            DELETE FROM leases"
        );
        db.execute(AssertSqlSafe(past)).await.unwrap();
        for n in 0..CLAIMS {
            app.push("q", &json!(n)).await;
            let claimed = claim(&app, "?wait=30s").await;
            text(call(&app, &claimed[0], "complete", json!({})).await, 204).await;
        }
        let database = app.database.clone();
        app.stop().await;
        for index in ["dispatch_pkey", "leases_remote_lane_idx"] {
            let question =
                format!("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
            let read = read_by(&database, &question).await;
            // Looks below the mark are a twentieth of the time, however long one takes.
            assert!(read < CLAIMS * PAST / 2, "{index}: {read} entries read by {CLAIMS} claims");
        }
        old.execute("ROLLBACK").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_remote_workers_hold_is_looked_up_and_never_read_whole() {
    const HELD: i64 = 10_000;
    let app = TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app).await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    let held = format!(
        "INSERT INTO leases (expires_at, lease, holder, lane, ranks, items, attempts)
            SELECT now() + interval '1 hour', '1 hour', 'many', (SELECT id FROM queues), '{{0}}', ARRAY[gen_random_uuid()], '{{1}}'
            FROM generate_series(1, {HELD})"
    );
    db.execute(AssertSqlSafe(held)).await.unwrap();
    let id = app.push("q", &json!(1)).await;
    let claimed = claim(&app, "?wait=30s").await;
    for _ in 0..20 {
        assert_eq!(app.message("q", &id).await["status"], "INPROGRESS");
        assert_eq!(app.whole_message("q", &id).await["worker"], "tester");
    }
    text(call(&app, &claimed[0], "heartbeat", json!({})).await, 200).await;
    // A look or two at what is over.
    for _ in 0..3 {
        let heartbeat = "SELECT max(heartbeat)::text FROM workers";
        let last: String = sqlx::query_scalar(heartbeat).fetch_one(&mut db).await.unwrap();
        eventually("the heart beats", async || {
            sqlx::query_scalar::<_, String>(heartbeat).fetch_one(&mut db).await.unwrap() != last
        })
        .await;
    }
    assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    let database = app.database.clone();
    app.stop().await;
    let read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'leases'";
    let read = read_by(&database, read).await;
    assert!(read < HELD, "{read} leases read");
}

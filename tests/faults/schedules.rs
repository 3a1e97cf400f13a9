//! Two servers whose clocks differ by a minute fire thousands of moments of schedules, each once.

use super::clock::library;
use super::{connect, url_of};
use crate::support::app::database;
use crate::support::eventually;
use crate::support::not_checked;
use crate::support::serve::Serve;
use axum::http::Method;
use serde_json::json;
use sqlx::postgres::PgConnection;

/// Schedules, and rounds in which each has a moment.
const SCHEDULES: i64 = 500;
const ROUNDS: i64 = 20;

/// A server whose own clock is so many seconds ahead.
async fn skewed(url: &str, seconds: &str) -> Serve {
    let Some(library) = library() else {
        not_checked("schedules of servers whose clocks differ: libfaketime is not installed");
        return Serve::on(url, &[]).await;
    };
    let settings = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", seconds),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("POSTRIDER_EXAMPLES", "false"),
    ];
    Serve::on(url, &settings).await
}

async fn count(db: &mut PgConnection, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_whose_clocks_differ_by_a_minute_fire_ten_thousand_moments_each_once() {
    let database = database().await;
    let url = url_of(&database);
    let (ahead, behind) = (skewed(&url, "+30").await, skewed(&url, "-30").await);
    let mut db = connect(&database).await;
    ahead.define("q", &json!({})).await;
    let one = |n| (format!("s{n}"), json!({ "every": "1h", "message": n }));
    let set = json!({ "schedules": (0..SCHEDULES).map(one).collect::<serde_json::Map<_, _>>() });
    let put = behind.request(Method::PUT, "/queues/q/schedules").json(&set).send().await.unwrap();
    assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
    // Whoever put them, they are counted by the database's clock.
    let in_an_hour = "SELECT count(*) FROM schedules
        WHERE next_at BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour'";
    assert_eq!(count(&mut db, in_an_hour).await, SCHEDULES);
    for round in 1..=ROUNDS {
        let passed = "UPDATE schedules SET next_at = now();
            UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider";
        sqlx::raw_sql(passed).execute(&mut db).await.unwrap();
        eventually("all fire", async || {
            count(&mut db, "SELECT count(*) FROM ticks").await >= round * SCHEDULES
                && count(&mut db, "SELECT count(*) FROM schedules WHERE next_at <= now()").await == 0
        })
        .await;
    }
    let fired = "SELECT count(*) FROM ticks WHERE outcome = 'fired'";
    assert_eq!(count(&mut db, fired).await, SCHEDULES * ROUNDS);
    assert_eq!(count(&mut db, "SELECT count(*) FROM messages").await, SCHEDULES * ROUNDS);
    let each = "SELECT count(*) FROM (
            SELECT FROM messages JOIN ticks ON ticks.item = messages.id GROUP BY request::text HAVING count(*) = 20
        ) AS each";
    assert_eq!(count(&mut db, each).await, SCHEDULES);
    ahead.kill().await;
    behind.kill().await;
}

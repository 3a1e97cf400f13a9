//! Two servers fire thousands of moments of schedules, each once: whatever their clocks say, and however many are due at
//! once.

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

/// Schedules that are due at once.
const CROWD: i64 = 10_000;

/// How many moments a server says that it fired.
async fn fired_by(server: &Serve) -> i64 {
    let told = server.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let name = "postrider_schedule_runs_total{kind=\"queue\",outcome=\"fired\"} ";
    told.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_schedules_of_queues_that_are_due_at_once_fire_each_once_over_two_servers() {
    let database = database().await;
    let (url, settings) = (url_of(&database), [("POSTRIDER_EXAMPLES", "false")]);
    let (one, other) = tokio::join!(Serve::on(&url, &settings), Serve::on(&url, &settings));
    let mut db = connect(&database).await;
    for n in 0..10 {
        one.define(&format!("q{n}"), &json!({})).await;
    }
    // They come due with one commit, and both servers hear of it.
    let due = format!(
        "WITH made AS (
            INSERT INTO queue_schedules (queue_id, name, definition, message)
            SELECT q.id, 's' || n, json_build_object('every', '1h', 'message', n), to_json(n)
            FROM generate_series(1, {CROWD}) AS n JOIN queues AS q ON q.name = 'q' || n % 10
            RETURNING id
        )
        INSERT INTO schedules (kind, owner, next_at) SELECT 'queue', id, now() FROM made;
        UPDATE catalog SET revision = revision + 1;
        NOTIFY postrider_postrider"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(due)).execute(&mut db).await.unwrap();
    let late = "SELECT count(*) FROM schedules WHERE next_at <= now()";
    eventually("all have fired", async || count(&mut db, late).await == 0).await;
    for all in [
        "SELECT count(*) FROM ticks WHERE outcome = 'fired'",
        "SELECT count(*) FROM messages",
        "SELECT count(DISTINCT request::text) FROM messages",
        "SELECT count(*) FROM dispatch",
        "SELECT count(*) FROM schedules AS s JOIN ticks AS t USING (kind, owner) JOIN messages AS m ON m.id = t.item
            JOIN queue_schedules AS q ON q.id = s.owner AND q.queue_id = m.queue_id
                AND q.message::text = m.request::text
            WHERE s.last_item = m.id",
    ] {
        assert_eq!(count(&mut db, all).await, CROWD, "{all}");
    }
    // Counted after the commit, which is seen before.
    eventually("they say so", async || fired_by(&one).await + fired_by(&other).await >= CROWD).await;
    assert_eq!(fired_by(&one).await + fired_by(&other).await, CROWD);
    one.kill().await;
    other.kill().await;
}

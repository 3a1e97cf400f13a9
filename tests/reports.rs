//! Reports and metrics: every one runs on an empty and on a filled database, and is right about a known case.

use crate::faults::url_of;
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::reads::rows_read;
use crate::support::serve::Serve;
use axum::http::{Method, StatusCode};
use postrider::internals::reports::REPORTS;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use std::time::Duration;

/// Rejects with what the message says.
const PICKY: &str = "module.exports = (m) => m.fail ? Promise.reject(m.fail) : Promise.resolve(m);";

async fn rows(app: &TestApp, report: &str) -> Vec<Value> {
    let answer = app.get(&format!("/reports/{report}")).await;
    assert_eq!(answer.status(), StatusCode::OK, "{report}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.json().await.unwrap()
}

/// The rows of one queue.
async fn of_queue(app: &TestApp, report: &str, queue: &str) -> Vec<Value> {
    rows(app, report).await.into_iter().filter(|row| row["queue"] == queue).collect()
}

async fn csv(app: &TestApp, report: &str) -> String {
    app.get(&format!("/reports/{report}?format=csv")).await.text().await.unwrap()
}

fn sum(rows: &[Value], column: &str) -> i64 {
    rows.iter().map(|row| row[column].as_i64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_report_answers_on_an_empty_database() {
    let app = TestApp::start().await;
    let listed: Vec<Value> = app.get("/reports").await.json().await.unwrap();
    assert_eq!(listed.len(), REPORTS.len());
    for report in listed {
        let name = report["name"].as_str().unwrap();
        assert!(report["question"].as_str().unwrap().ends_with('?'));
        assert_eq!(rows(&app, name).await.is_empty(), name != "table_health", "{name}");
        let header = csv(&app, name).await;
        assert!(header.starts_with(|c: char| c.is_ascii_lowercase()) && header.contains("\r\n"), "{header}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_runs_as_it_is_and_changes_nothing() {
    let app = TestApp::start().await;
    app.define_javascript("q", PICKY).await;
    app.handled("q", &json!({})).await;
    let mut db = app.connect().await;
    db.execute("SET default_transaction_read_only = on").await.unwrap();
    for report in REPORTS {
        let file = std::fs::read_to_string(format!("sql/reports/{}.sql", report.name)).unwrap();
        // The simple protocol, as psql speaks it.
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(file)).execute(&mut db).await;
        assert!(done.is_ok(), "{}: {done:?}", report.name);
    }
    db.close().await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_counted_by_minute_by_outcome_and_by_error() {
    let app = TestApp::start().await;
    let options = json!({ "max_attempts": 2, "retry": { "base": "1ms", "cap": "1ms" } });
    let handler = json!({ "kind": "javascript", "source": PICKY });
    app.define("work", json!({ "handler": handler, "options": options })).await;
    for n in 0..3 {
        app.handled("work", &json!({ "n": n })).await;
    }
    let failing = app.push("work", &json!({ "fail": { "name": "Boom" } })).await;
    eventually("it fails for good", async || app.message("work", &failing).await["status"] == "ERROR").await;

    let by_minute = of_queue(&app, "throughput_by_minute", "work").await;
    let sums = ["pushed", "completed", "failed"].map(|column| sum(&by_minute, column));
    assert_eq!(sums, [4, 3, 1], "{by_minute:?}");

    let errors = of_queue(&app, "error_rate", "work").await;
    let error = json!([errors[0]["ended"], errors[0]["completed"], errors[0]["failed"]]);
    assert_eq!(error, json!([4, 3, 1]));
    assert_eq!(errors[0]["failed_percent"], 25.0);
    assert_eq!(errors[0]["commonest_error"], "Boom");

    let attempts = of_queue(&app, "attempts_by_outcome", "work").await;
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|row| (row["outcome"].as_str().unwrap(), row["attempts"].as_i64().unwrap()))
        .collect();
    assert_eq!(outcomes, [("completed", 3), ("failed", 1), ("retried", 1)]);

    let latency = of_queue(&app, "latency_percentiles", "work").await;
    assert_eq!(latency[0]["ended"], 4);

    // The same, an hour and a half later.
    let mut db = app.connect().await;
    db.execute(
        "UPDATE outcomes SET started_at = started_at - interval '90 minutes', finished_at = finished_at - interval '90 minutes'",
    )
    .await
    .unwrap();
    assert!(of_queue(&app, "error_rate", "work").await.is_empty());
    let longer: Vec<Value> = app.get("/reports/error_rate?period=2h").await.json().await.unwrap();
    assert_eq!(longer[0]["ended"], 4);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_is_told_apart_into_waiting_and_running() {
    let app = TestApp::start().await;
    app.define("slow", json!({ "handler": { "kind": "worker" } })).await;
    let mut db = app.connect().await;
    // A hundred messages: the n-th waited n ms and ran 2n ms.
    db.execute(
        "WITH made AS (
            INSERT INTO messages (queue_id, id, request)
            SELECT queues.id, uuid_v7(date_trunc('milliseconds', now()) - n * interval '1 second'), to_json(n)
            FROM queues CROSS JOIN generate_series(1, 100) AS n
            RETURNING queue_id, id, request::text::integer AS n
        )
        INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, finished_at, status, ending, result)
        SELECT queue_id, 1, id, gen_random_uuid(), uuid_v7_time(id) + n * interval '1 ms', uuid_v7_time(id) + 3 * n * interval '1 ms', 'COMPLETE', 'completed', 'null'
        FROM made",
    )
    .await
    .unwrap();
    let latency = of_queue(&app, "latency_percentiles", "slow").await;
    for (column, milliseconds) in [
        ("waited_p50_ms", 50.5),
        ("ran_p50_ms", 101.0),
        ("took_p50_ms", 151.5),
        ("waited_p95_ms", 95.1),
        ("ran_p99_ms", 198.0),
    ] {
        assert_eq!(latency[0][column], milliseconds, "{column}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_runs_is_counted_and_explained() {
    let app = TestApp::start().await;
    app.define_javascript("halted", PICKY).await;
    app.post("/queues/halted/pause", &json!(null)).await;
    let first = app.push("halted", &json!(1)).await;
    let second = app.push("halted", &json!(2)).await;
    app.post("/queues/halted/messages?delay=1h", &json!(3)).await;
    app.define("remote", json!({ "handler": { "kind": "worker" } })).await;
    let claimed = app.push("remote", &json!(1)).await;
    let waiting = app.push("remote", &json!(2)).await;
    app.post("/queues/remote/claim", &json!(null)).await;

    let depth = rows(&app, "queue_depth").await;
    let halted = json!({ "queue": "halted", "paused": true, "ready": 2, "scheduled": 1, "running": 0 });
    let remote = json!({ "queue": "remote", "paused": false, "ready": 1, "scheduled": 0, "running": 1 });
    assert_eq!(depth, [halted, remote]);

    let due = rows(&app, "oldest_due").await;
    assert_eq!(json!([due[0]["queue"], due[0]["message"]]), json!(["halted", first]));
    assert!(due[0]["why"].as_str().unwrap().contains("paused"));
    assert_eq!(json!([due[1]["queue"], due[1]["message"]]), json!(["remote", waiting]));
    assert!(due[1]["why"].as_str().unwrap().contains("no remote worker"));
    assert_eq!(due.len(), 2);

    assert_eq!(rows(&app, "stuck_work").await, Vec::<Value>::new());
    let long: Vec<Value> = app.get("/reports/stuck_work?long=1ms").await.json().await.unwrap();
    let found = json!([long[0]["problem"], long[0]["message"], long[0]["holder"]]);
    assert_eq!(found, json!(["long attempt", claimed, "tester"]));

    // What must never be: a message that nothing would ever run. And a lease of two, of which one has ended.
    let mut db = app.connect().await;
    db.execute(sqlx::AssertSqlSafe(format!(
        "DELETE FROM dispatch WHERE lane = (SELECT id FROM queues WHERE name = 'halted');
        INSERT INTO leases (expires_at, lease, lane, ranks, items, attempts)
        SELECT now() + interval '1 hour', '1 hour', id, '{{0,0}}', '{{{second},{second}}}', '{{1,1}}' FROM queues WHERE name = 'halted';
        INSERT INTO attempts (queue_id, attempt, id, lease, started_at, ending, error)
        SELECT lane, 1, '{second}', id, now(), 'retried', '{{}}' FROM leases WHERE cardinality(items) = 2"
    )))
    .await
    .unwrap();
    let stuck = rows(&app, "stuck_work").await;
    let lost: Vec<_> = stuck
        .iter()
        .map(|row| (row["problem"].as_str().unwrap(), row["message"].as_str().unwrap()))
        .collect();
    assert_eq!(lost, [("lost", first.as_str()), ("lost", second.as_str())]);
    assert_eq!(of_queue(&app, "queue_depth", "halted").await[0]["running"], 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_for_its_next_attempt_is_pending_while_its_neighbour_runs() {
    let app = TestApp::start().await;
    let source =
        "module.exports = (m) => m.fail ? Promise.reject('no') : new Promise((r) => setTimeout(r, 60000));";
    app.define(
        "pair",
        json!({
            "handler": { "kind": "javascript", "source": source },
            "options": { "concurrency": 2, "max_attempts": 2, "retry": { "base": "1h", "cap": "1h" }, "timeout": "2m" }
        }),
    )
    .await;
    app.post("/queues/pair/pause", &json!(null)).await;
    let waits = app.push("pair", &json!({ "fail": true })).await;
    let runs = app.push("pair", &json!({})).await;
    app.post("/queues/pair/resume", &json!(null)).await;
    eventually("the first attempt has failed", async || {
        !app.whole_message("pair", &waits).await["history"].as_array().unwrap().is_empty()
    })
    .await;
    let mut db = app.connect().await;
    let claimed: i32 =
        sqlx::query_scalar("SELECT cardinality(items) FROM leases").fetch_one(&mut db).await.unwrap();
    assert_eq!(claimed, 2, "one lease holds both");
    let message = app.whole_message("pair", &waits).await;
    assert_eq!(json!([message["status"], message["attempts"]]), json!(["PENDING", 1]));
    assert!(message["run_at"].is_string());
    assert_eq!(app.message("pair", &runs).await["status"], "INPROGRESS");
    let depth = rows(&app, "queue_depth").await;
    assert_eq!(
        depth[0],
        json!({ "queue": "pair", "paused": false, "ready": 0, "scheduled": 1, "running": 1 })
    );
    assert_eq!(app.delete(&format!("/queues/pair/messages/{runs}")).await.status(), StatusCode::NO_CONTENT);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheet_takes_no_cell_for_a_formula() {
    let app = TestApp::start().await;
    app.define_javascript("sheet", PICKY).await;
    let evil = r#"=HYPERLINK("http://evil","x")"#;
    app.handled("sheet", &json!({ "fail": { "name": evil } })).await;
    let text = csv(&app, "error_rate").await;
    assert!(text.contains(r#","'=HYPERLINK(""http://evil"",""x"")","#), "{text}");
    assert_eq!(rows(&app, "error_rate").await[0]["commonest_error"], evil, "JSON needs no guard");

    // What PostgreSQL's text cannot hold must not break a report.
    let mut db = app.connect().await;
    db.execute(r#"UPDATE outcomes SET error = '{"name":"a\u0000"}'"#).await.unwrap();
    assert_eq!(rows(&app, "error_rate").await[0]["commonest_error"], "a\u{fffd}");
    assert_eq!(rows(&app, "attempts_by_outcome").await[0]["outcome"], "failed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_reports_choose_the_form_and_others_are_refused() {
    let app = TestApp::start().await;
    let ask = async |role: &str, path: &str| {
        app.request_as(&[role], Method::GET, path).send().await.unwrap().status()
    };
    for role in ["report_reader", "queue_admin", "system_admin"] {
        assert_eq!(ask(role, "/reports/queue_depth").await, StatusCode::OK, "{role}");
        assert_eq!(ask(role, "/reports").await, StatusCode::OK, "{role}");
    }
    for role in ["queue_writer", "system_writer", "Report_Reader"] {
        assert_eq!(ask(role, "/reports/queue_depth").await, StatusCode::FORBIDDEN, "{role}");
        assert_eq!(ask(role, "/reports").await, StatusCode::FORBIDDEN, "{role}");
    }
    assert_eq!(ask("report_reader", "/reports/salaries").await, StatusCode::NOT_FOUND);
    for query in ["format=xml", "period=soon", "period=900days", "long=-1s"] {
        let path = format!("/reports/queue_depth?{query}");
        assert_eq!(ask("report_reader", &path).await, StatusCode::BAD_REQUEST, "{query}");
    }
    let accepted =
        app.request(Method::GET, "/reports/queue_depth").header("accept", "text/csv").send().await.unwrap();
    assert_eq!(accepted.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(accepted.headers()["content-disposition"], "attachment; filename=\"queue_depth.csv\"");
    assert_eq!(accepted.text().await.unwrap(), "queue,paused,ready,scheduled,running\r\n");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_each_queue_does() {
    // A process of its own: those of one process share what they count, and how many names they tell.
    let serve = Serve::on(&url_of(&database().await), &[]).await;
    let counted = json!({
        "handler": { "kind": "javascript", "source": PICKY },
        "options": { "max_attempts": 2, "retry": { "base": "1ms", "cap": "1ms" } }
    });
    serve.define("counted", &counted).await;
    let done = serve.push("counted", &json!({})).await;
    serve.complete("counted", &done).await;
    let failing = serve.push("counted", &json!({ "fail": "no" })).await;
    eventually("it fails for good", async || serve.message("counted", &failing).await["status"] == "ERROR")
        .await;
    serve.define("deep", &json!({ "handler": { "kind": "worker" } })).await;
    let post = async |path: &str, body: Value| {
        let key = ("idempotency-key", format!("key of {body}"));
        let sent = serve.request(Method::POST, &format!("/queues/deep/messages{path}")).header(key.0, key.1);
        assert!(sent.json(&body).send().await.unwrap().status().is_success());
    };
    post(":batch", json!([1, 2, 3])).await;
    for _ in 0..2 {
        post("", json!(4)).await;
    }
    post("?delay=1h", json!(5)).await;

    let text = serve.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    has(r#"postrider_messages_pushed_total{queue="counted"} 2"#);
    has(r#"postrider_messages_pushed_total{queue="deep"} 5"#);
    has(r#"postrider_attempts_total{queue="counted",outcome="completed"} 1"#);
    has(r#"postrider_attempts_total{queue="counted",outcome="retried"} 1"#);
    has(r#"postrider_attempts_total{queue="counted",outcome="failed"} 1"#);
    has(r#"postrider_attempts_total{queue="counted",outcome="lost"} 0"#);
    has(r#"postrider_attempt_duration_seconds_count{queue="counted"} 3"#);
    has(r#"postrider_queue_ready{queue="deep"} 4"#);
    has(r#"postrider_queue_scheduled{queue="deep"} 1"#);
    assert!(text.contains("\npostrider_busy ") && text.contains("\npostrider_lost_claims_total "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_answered_while_the_database_is_stuck() {
    let app = TestApp::start().await;
    app.define("held", json!({ "handler": { "kind": "worker" } })).await;
    // The count waits for this lock, and gives up.
    let mut db = app.connect().await;
    db.execute("BEGIN; LOCK TABLE dispatch IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let answer = app.request(Method::GET, "/metrics").timeout(Duration::from_secs(30)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("postrider_busy"));
    db.execute("ROLLBACK").await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_a_backlog_is_found_without_reading_it() {
    let app = TestApp::start().await;
    app.define("deep", json!({})).await;
    app.define("late", json!({})).await;
    let mut db = app.connect().await;
    // Nobody makes ready what is overdue.
    app.stop().await;
    // The oldest is of the lowest priority; and of what nobody made ready yet, the first whose time came.
    db.execute(
        "INSERT INTO dispatch (lane, rank, item)
        SELECT id, n % 5, uuid_v7(now() - interval '1 hour' + n * interval '1 ms') FROM queues, generate_series(1, 20000) AS n
        WHERE name = 'deep';
        INSERT INTO dispatch (lane, rank, item) SELECT id, 7, uuid_v7(now() - interval '2 hours') FROM queues WHERE name = 'deep';
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() - n * interval '1 minute', id, 0, uuid_v7(now() - interval '1 day') FROM queues, generate_series(1, 3) AS n
        WHERE name = 'late';
        ANALYZE dispatch",
    )
    .await
    .unwrap();
    let mut tx = db.begin().await.unwrap();
    let before = rows_read(&mut tx).await;
    let report = include_str!("../sql/reports/oldest_due.sql").trim_end().trim_end_matches(';');
    let found =
        format!("SELECT queue || ' ' || round(waiting_seconds / 60) FROM ({report}) AS report ORDER BY 1");
    let found: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(found)).fetch_all(&mut *tx).await.unwrap();
    let read = rows_read(&mut tx).await - before;
    assert_eq!(found, ["deep 120", "late 3"]);
    assert!(read < 1000, "{read} rows were read");
}

//! Why a message is not running: each cause is made, and named, and what is said to be done about it helps.

use super::remote::{call, claim, start};
use crate::support::answer::{json, refusal, text};
use crate::support::app::{TestApp, config};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::reads::rows_read;
use axum::http::Method;
use postrider::internals::queues::why as of_queue;
use postrider::internals::worker::store::why as of_engine;
use postrider::{App, Failure, Message};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};
use std::time::Duration;
use uuid::Uuid;

/// What is said of a message.
pub(crate) async fn why(app: &TestApp, queue: &str, id: &str) -> Value {
    json(app.get(&format!("/queues/{queue}/messages/{id}/why")).await, 200).await
}

/// The causes that are named, in their order.
pub(crate) fn causes(why: &Value) -> Vec<&str> {
    why["reasons"].as_array().unwrap().iter().map(|reason| reason["cause"].as_str().unwrap()).collect()
}

/// The reason of this cause, which must be named.
pub(crate) fn reason<'a>(why: &'a Value, cause: &str) -> &'a Value {
    let reasons = why["reasons"].as_array().unwrap();
    reasons.iter().find(|reason| reason["cause"] == cause).unwrap_or_else(|| panic!("no {cause}: {why}"))
}

/// Waits until these causes are named, and no others; returns what is said.
async fn until(app: &TestApp, queue: &str, id: &str, wanted: &[&str]) -> Value {
    let mut said = Value::Null;
    eventually(&format!("{wanted:?} are named"), async || {
        said = why(app, queue, id).await;
        causes(&said) == wanted
    })
    .await;
    said
}

async fn act(db: &mut PgConnection, statement: &str) {
    db.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
}

fn native(name: &str) -> Value {
    json!({ "handler": { "kind": "native", "name": name } })
}

async fn echo(message: Message) -> Result<Value, Failure> {
    message.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_is_named_with_who_paused_it_and_resuming_it_helps() {
    let app = TestApp::with(&[], |app| app.handler("echo", echo)).await;
    app.define("q", native("echo")).await;
    let ann =
        app.anonymous(Method::POST, "/queues/q/pause").bearer_auth(app.token_of("ann", &["queue_admin"]));
    json(ann.send().await.unwrap(), 200).await;
    // Who pauses it once more is not the one.
    json(app.post("/queues/q/pause", &json!({})).await, 200).await;
    let id = app.push("q", &json!(1)).await;
    let said = why(&app, "q", &id).await;
    assert_eq!((causes(&said), &said["status"]), (vec!["queue_paused"], &json!("PENDING")), "{said}");
    assert_eq!(
        (&said["kind"], &said["see"]),
        (&json!("message"), &json!(format!("/queues/q/messages/{id}")))
    );
    let paused = reason(&said, "queue_paused");
    assert_eq!((&paused["by"], &paused["fault"]), (&json!("ann"), &json!(true)));
    assert!(paused["since"].is_string() && paused["detail"].as_str().unwrap().contains("by ann"), "{paused}");
    text(app.get(paused["see"].as_str().unwrap()).await, 200).await;
    let act = paused["do"].as_str().unwrap().strip_prefix("POST ").unwrap().to_owned();
    json(app.post(&act, &json!({})).await, 200).await;
    app.ended("q", &id).await;
    let said = why(&app, "q", &id).await;
    assert_eq!(
        (&said["status"], &said["reasons"]),
        (&json!("COMPLETE"), &json!([])),
        "what has ended has no reasons"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_for_later_says_until_when_and_after_which_failure() {
    let fails = |_: Message| async {
        let error = json!({ "name": "Busy", "message": "the printer is" });
        Err::<Value, _>(Failure::Retry(error, Some(Duration::from_hours(1))))
    };
    let app = TestApp::with(&[], |app| app.handler("fails", fails)).await;
    app.define("q", native("fails")).await;
    let later: Value = json(app.post("/queues/q/messages?delay=2h", &json!(1)).await, 201).await;
    let said = why(&app, "q", later["id"].as_str().unwrap()).await;
    assert_eq!(causes(&said), ["scheduled"]);
    let run_at = app.whole_message("q", later["id"].as_str().unwrap()).await["run_at"].clone();
    assert_eq!(reason(&said, "scheduled")["until"], run_at);

    let failed = app.push("q", &json!(2)).await;
    let said = until(&app, "q", &failed, &["backoff"]).await;
    let backoff = reason(&said, "backoff");
    assert_eq!((&backoff["attempt"], &backoff["error"]), (&json!(1), &json!("Busy: the printer is")));
    assert_eq!((&backoff["fault"], backoff["until"].is_string()), (&json!(false), true));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_places_and_what_is_before_it_is_counted() {
    let gate = Gate::closed();
    let app = TestApp::with(&[], |app| app.handler("gate", gate.handler())).await;
    app.define("q", native("gate")).await;
    let first = app.push("q", &json!(1)).await;
    gate.reached_by(1).await;
    let said = why(&app, "q", &first).await;
    assert_eq!((causes(&said), &said["status"]), (vec!["running"], &json!("INPROGRESS")));
    let runs = reason(&said, "running");
    let worker = app.whole_message("q", &first).await["worker"].clone();
    assert_eq!((&runs["by"], &runs["fault"], &runs["attempt"]), (&worker, &json!(false), &json!(1)));

    let (second, third) = (app.push("q", &json!(2)).await, app.push("q", &json!(3)).await);
    let urgent = json(app.post("/queues/q/messages?priority=5", &json!(4)).await, 201).await;
    let said = why(&app, "q", &third).await;
    assert_eq!(causes(&said), ["places_taken", "higher_priority", "earlier"]);
    let places = reason(&said, "places_taken");
    assert_eq!((&places["count"], &places["since"]), (&json!(1), &runs["since"]));
    assert_eq!(places["holders"], json!([{ "item": first, "by": worker, "since": runs["since"] }]));
    assert_eq!(reason(&said, "higher_priority")["count"], 1);
    assert_eq!(reason(&said, "earlier")["count"], 1, "{second} came before it");
    let said = why(&app, "q", urgent["id"].as_str().unwrap()).await;
    assert_eq!(causes(&said), ["places_taken"], "it is the next");
    gate.pass(4);
    app.ended("q", &third).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_no_living_process_has_is_named() {
    // Without the program that becomes a child, a process runs no JavaScript.
    let app = TestApp::with(&[], |_| App::new(config(&[])).handler("echo", echo)).await;
    app.define("none", json!({})).await;
    app.define("other", native("thumbnails")).await;
    app.define_javascript("script", "module.exports = m => m").await;
    for (queue, cause, of) in [
        ("none", "no_handler", Value::Null),
        ("other", "no_runner", json!("the native handler thumbnails")),
        ("script", "no_runner", json!("JavaScript")),
    ] {
        let id = app.push(queue, &json!(1)).await;
        let said = why(&app, queue, &id).await;
        assert_eq!((causes(&said), &reason(&said, cause)["of"]), (vec![cause], &of), "{queue}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_for_remote_workers_says_that_nobody_claims_and_who_did_last() {
    let app = start(json!({ "concurrency": 1 })).await;
    let (first, second) = (app.push("q", &json!(1)).await, app.push("q", &json!(2)).await);
    let said = why(&app, "q", &first).await;
    assert_eq!(causes(&said), ["nobody_claims"]);
    assert!(reason(&said, "nobody_claims").get("since").is_none(), "nobody ever did");

    assert_eq!(claim(&app, "").await[0]["id"], json!(first));
    let mut db = app.connect().await;
    let said = until(&app, "q", &second, &["places_taken"]).await;
    let holder = &reason(&said, "places_taken")["holders"][0];
    assert_eq!((&holder["item"], &holder["by"]), (&json!(first), &json!("tester")));
    let past = "now() - interval '5 minutes'";
    act(&mut db, &format!("UPDATE lane_askers SET asked_at = {past}; UPDATE leases SET claimed_at = {past}"))
        .await;
    let said = why(&app, "q", &second).await;
    assert_eq!(causes(&said), ["nobody_claims", "places_taken"]);
    let nobody = reason(&said, "nobody_claims");
    assert_eq!((&nobody["by"], nobody["since"].is_string()), (&json!("tester"), true));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_message_counts_as_asking_for_as_long_as_it_waits() {
    let app = start(json!({})).await;
    let mut db = app.connect().await;
    let waiting = claim(&app, "?wait=60s");
    let push = async {
        let asked = "SELECT count(*) FROM lane_askers";
        eventually("it is noted who waits", async || {
            sqlx::query_scalar::<_, i64>(asked).fetch_one(&mut db).await.unwrap() == 1
        })
        .await;
        // As if it had waited for long.
        act(&mut db, "UPDATE lane_askers SET asked_at = now() - interval '1 hour'").await;
        let again = "SELECT asked_at > now() - interval '1 minute' FROM lane_askers";
        eventually("it is noted again", async || {
            sqlx::query_scalar::<_, bool>(again).fetch_one(&mut db).await.unwrap()
        })
        .await;
        app.push("q", &json!(1)).await
    };
    let (claimed, id) = tokio::join!(waiting, push);
    assert_eq!(claimed[0]["id"], json!(id));
    let said = why(&app, "q", &id).await;
    assert_eq!((causes(&said), &reason(&said, "running")["by"]), (vec!["running"], &json!("tester")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_silent_is_told_from_one_that_works() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let claimed = claim(&app, "").await;
    assert_eq!(causes(&why(&app, "q", &id).await), ["running"]);
    let mut db = app.connect().await;
    // Of its hour ten minutes are left.
    act(&mut db, "UPDATE leases SET lease = '1 hour', expires_at = now() + interval '10 minutes'").await;
    let said = why(&app, "q", &id).await;
    assert_eq!(causes(&said), ["worker_silent"]);
    let silent = reason(&said, "worker_silent");
    assert_eq!((&silent["by"], &silent["fault"]), (&json!("tester"), &json!(true)));
    assert!(silent["since"].as_str().unwrap() < said["at"].as_str().unwrap(), "{said}");
    assert!(silent["until"].as_str().unwrap() > said["at"].as_str().unwrap(), "{said}");
    json(call(&app, &claimed[0], "heartbeat", json!({})).await, 200).await;
    assert_eq!(causes(&why(&app, "q", &id).await), ["running"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_loop_that_is_behind_is_named_and_so_is_what_nobody_makes_ready() {
    let app = TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app.handler("echo", echo)).await;
    app.define("q", native("echo")).await;
    json(app.post("/queues/q/pause", &json!({})).await, 200).await;
    let id = app.push("q", &json!(1)).await;
    let later: Value = json(app.post("/queues/q/messages?delay=1h", &json!(2)).await, 201).await;
    // No claim comes to its end, and nothing that is due is moved.
    let mut held = app.connect().await;
    act(&mut held, "BEGIN; LOCK TABLE dispatch IN SHARE MODE").await;
    let mut db = app.connect().await;
    act(&mut db, "UPDATE scheduled SET run_at = now() - interval '1 minute'").await;
    json(app.post("/queues/q/resume", &json!({})).await, 200).await;
    let said = until(&app, "q", &id, &["claim_loop_behind"]).await;
    let behind = reason(&said, "claim_loop_behind");
    assert!(behind["by"].is_string() && behind["since"].is_string(), "{behind}");
    let later = later["id"].as_str().unwrap();
    let said = why(&app, "q", later).await;
    let overdue = said["reasons"].as_array().unwrap().last().unwrap();
    assert_eq!((&overdue["cause"], overdue["by"].is_null()), (&json!("claim_loop_behind"), true), "{said}");
    act(&mut held, "ROLLBACK").await;
    app.ended("q", &id).await;
    app.ended("q", later).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_nowhere_is_told() {
    let app = start(json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let mut db = app.connect().await;
    act(&mut db, "DELETE FROM dispatch").await;
    assert_eq!(causes(&why(&app, "q", &id).await), ["nowhere", "nobody_claims"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_the_message_may_ask_and_nobody_else() {
    let app = start(json!({})).await;
    app.define("other", json!({})).await;
    let id = app.push("q", &json!(1)).await;
    let path = format!("/queues/q/messages/{id}/why");
    let ask =
        async |roles: &[&str], path: &str| app.request_as(roles, Method::GET, path).send().await.unwrap();
    for role in ["q_writer", "queue_writer", "queue_admin", "system_admin"] {
        json(ask(&[role], &path).await, 200).await;
    }
    for role in ["q_worker", "other_writer", "hub_admin"] {
        refusal(ask(&[role], &path).await, 403).await;
    }
    for path in [
        format!("/queues/other/messages/{id}/why"),
        format!("/queues/nowhere/messages/{id}/why"),
        format!("/queues/q/messages/{}/why", Uuid::now_v7()),
        "/queues/q/messages/no-id/why".to_owned(),
    ] {
        refusal(app.get(&path).await, 404).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_cost_the_same_however_many_wait() {
    const WAITING: i64 = 150_000;
    let app = start(json!({ "concurrency": 5 })).await;
    let mut db = app.connect().await;
    let fill = format!(
        "INSERT INTO messages (queue_id, id, request)
        SELECT (SELECT id FROM queues), uuid_v7(date_trunc('week', now()) + n * interval '1 ms'), '1'
        FROM generate_series(1, {WAITING}) AS n;
        INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM messages ORDER BY id;
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + interval '1 day', 0, 0, gen_random_uuid() FROM generate_series(1, {WAITING})"
    );
    act(&mut db, &fill).await;
    let last: Uuid = sqlx::query_scalar("SELECT id FROM messages ORDER BY id DESC LIMIT 1")
        .fetch_one(&mut db)
        .await
        .unwrap();
    let said = why(&app, "q", &last.to_string()).await;
    assert_eq!(causes(&said), ["nobody_claims", "earlier"]);
    let earlier = reason(&said, "earlier");
    assert_eq!((&earlier["count"], &earlier["or_more"]), (&json!(10_000), &json!(true)));

    // As the route reads them, each by itself. The planner knows nothing of what was stored just now.
    let queue: i32 = sqlx::query_scalar("SELECT id FROM queues").fetch_one(&mut db).await.unwrap();
    act(&mut db, "BEGIN").await;
    of_engine::begin(&mut db).await.unwrap();
    let before = rows_read(&mut db).await;
    of_queue::row(&mut db, queue, last).await.unwrap().unwrap();
    assert!(of_engine::held(&mut db, &[queue], last).await.unwrap().is_empty());
    assert!(of_engine::scheduled(&mut db, last).await.unwrap().is_none());
    assert!(of_queue::last_attempt(&mut db, queue, last).await.unwrap().is_none());
    assert_eq!(of_queue::taken(&mut db, queue).await.unwrap().count, 0);
    of_engine::processes(&mut db).await.unwrap();
    let read = rows_read(&mut db).await - before;
    assert!(read < 100, "{read} rows for all but the order");
    let ahead = of_engine::ahead(&mut db, queue, 0, last).await.unwrap().unwrap();
    assert_eq!((ahead.place, ahead.looked_at), (None, of_engine::LOOKED_AT));
    let read = rows_read(&mut db).await - before - read;
    assert!(read <= of_engine::LOOKED_AT + 10, "{read} rows for the order");
    act(&mut db, "ROLLBACK").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_holds_a_message_back_is_named_and_so_is_each_of_several() {
    let app = TestApp::with(&[], |app| app.handler("echo", echo)).await;
    let options = json!({ "unique": { "key": "body", "while": "waiting" } });
    app.define("q", json!({ "handler": { "kind": "native", "name": "echo" }, "options": options })).await;
    assert_eq!(app.post("/queues/q/pause", &json!(null)).await.status(), 200);
    let id = app.push("q", &json!(1)).await;
    assert_eq!(causes(&why(&app, "q", &id).await), ["queue_paused"]);
    let (mut one, mut other) = (app.connect().await, app.connect().await);
    let begin = "SET application_name = 'shop'; BEGIN; SELECT enqueue('q', '1')";
    act(&mut one, begin).await;
    let said = until(&app, "q", &id, &["queue_paused", "held_back"]).await;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut one).await.unwrap();
    let held = reason(&said, "held_back");
    assert_eq!(held["by"], format!("process {pid} (shop, idle in transaction)"));
    assert!(held["since"].is_string() && held["do"].as_str().unwrap().contains(&pid.to_string()), "{held}");
    // Two that hold it together have one mark.
    act(&mut other, begin).await;
    assert_eq!(reason(&why(&app, "q", &id).await, "held_back")["by"], held["by"]);
    act(&mut one, "ROLLBACK").await;
    assert_eq!(app.post("/queues/q/resume", &json!(null)).await.status(), 200);
    let said = until(&app, "q", &id, &["held_back"]).await;
    assert_ne!(reason(&said, "held_back")["by"], held["by"]);
    act(&mut other, "COMMIT").await;
    app.ended("q", &id).await;
    app.stop().await;
}

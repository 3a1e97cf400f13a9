//! What a remote worker's 204 is worth: the end that it said is the one that is stored, and no other.

use crate::engine::ask;
use crate::engine::lost_answers::{COMMIT, Proxy};
use crate::support::answer::{json, refusal};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

/// How many messages a test has claimed at a time.
const MANY: usize = 20;
/// How many wait to end leases: settlements, and the reclaim.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%DELETE FROM leases%'";

/// How many wait for the table of leases at all.
const STOPPED: &str = "SELECT count(*) FROM pg_locks WHERE relation = 'leases'::regclass AND NOT granted";

async fn define(app: &TestApp, queue: &str, options: Value) {
    app.define(queue, json!({ "handler": { "kind": "worker" }, "options": options })).await;
}

/// Has a queue's messages claimed by one remote worker.
async fn claimed(app: &TestApp, queue: &str, count: usize) -> Vec<Value> {
    for n in 0..count {
        app.push(queue, &json!(n)).await;
    }
    let claimed = json(app.post(&format!("/queues/{queue}/claim?max=100"), &json!(null)).await, 200).await;
    let claimed = claimed.as_array().unwrap().clone();
    assert_eq!(claimed.len(), count);
    claimed
}

/// Says how a claimed message ended; returns the status of the answer.
async fn say(app: &TestApp, queue: &str, claimed: &Value, what: &str, mut body: Value) -> u16 {
    body["lease"] = claimed["lease"].clone();
    let path = format!("/queues/{queue}/messages/{}/{what}", claimed["id"].as_str().unwrap());
    app.post(&path, &body).await.status().as_u16()
}

/// Completes messages, each with its own id, at one time; returns the statuses of the answers.
async fn complete_all(app: &TestApp, queue: &str, claimed: &[Value]) -> Vec<u16> {
    let said = claimed.iter().map(|each| say(app, queue, each, "complete", json!({ "result": each["id"] })));
    join_all(said).await
}

/// Whether a message is COMPLETE with its own id.
async fn is_complete(app: &TestApp, queue: &str, claimed: &Value) -> bool {
    let message = app.message(queue, claimed["id"].as_str().unwrap()).await;
    message["status"] == "COMPLETE" && message["result"] == claimed["id"]
}

/// Refuses a 204 for a message that has not this end, and another answer for one that has.
async fn truthful(app: &TestApp, queue: &str, claimed: &[Value], statuses: &[u16]) -> usize {
    let mut counted = 0;
    for (claimed, status) in claimed.iter().zip(statuses) {
        let is_complete = is_complete(app, queue, claimed).await;
        assert_eq!(*status, if is_complete { 204 } else { 409 }, "{claimed}");
        // Who asks again hears the same.
        let again = say(app, queue, claimed, "complete", json!({ "result": claimed["id"] })).await;
        assert_eq!(again, *status, "{claimed}");
        counted += usize::from(is_complete);
    }
    counted
}

async fn until_waiting(db: &mut PgConnection, count: i64) {
    eventually("they wait for the leases", async || ask::<i64>(db, WAITING).await >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_reclaim_overtakes_is_refused_though_the_reclaim_writes_under_its_lease() {
    let app = TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    // One goes back to be claimed again, the other ends as WorkerLost: rows in attempts, and in outcomes.
    for options in [json!({}), json!({ "max_attempts": 1 })] {
        let queue = if options == json!({}) { "again" } else { "once" };
        define(&app, queue, options).await;
        // The reclaim waits for a tenth of a second at a time: who says an end between two of its tries comes first.
        let mut overtaken = false;
        for _ in 0..20 {
            let claimed = claimed(&app, queue, MANY).await;
            // It keeps leases from being deleted, and nobody from locking their rows: the reclaim comes that far.
            let mut lock = holder.begin().await.unwrap();
            sqlx::raw_sql("LOCK TABLE leases IN SHARE MODE").execute(&mut *lock).await.unwrap();
            until_waiting(&mut db, 1).await;
            let (statuses, ()) = tokio::join!(complete_all(&app, queue, &claimed), async {
                until_waiting(&mut db, 2).await;
                lock.commit().await.unwrap();
            });
            overtaken = truthful(&app, queue, &claimed, &statuses).await < MANY;
            if overtaken {
                break;
            }
        }
        assert!(overtaken, "the reclaim overtook none");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_end_and_a_reclaim_that_race_the_answer_tells_who_won() {
    let app = TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    for (queue, options) in [("again", json!({})), ("once", json!({ "max_attempts": 1 }))] {
        define(&app, queue, options).await;
        let claimed = claimed(&app, queue, MANY).await;
        let mut lock = holder.begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE leases IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let (statuses, ()) = tokio::join!(complete_all(&app, queue, &claimed), async {
            until_waiting(&mut db, 1).await;
            let over = "SELECT bool_and(expires_at < now()) FROM leases";
            eventually("the leases are over", async || ask::<bool>(&mut db, over).await).await;
            eventually("the reclaim waits too", async || ask::<i64>(&mut db, STOPPED).await >= 2).await;
            lock.commit().await.unwrap();
        });
        truthful(&app, queue, &claimed, &statuses).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_end_said_again_counts_and_another_does_not() {
    let app = TestApp::start().await;
    define(&app, "q", json!({ "max_attempts": 3 })).await;
    let ends = [
        ("complete", json!({ "result": { "a": 1, "b": [null] } })),
        ("complete", json!({ "result": 2 })),
        ("complete", json!({})),
        ("fail", json!({ "error": "no" })),
        ("fail", json!({ "error": "never" })),
        ("fail", json!({ "error": "no", "retry": "0s" })),
    ];
    for (first, (what, end)) in ends.iter().enumerate() {
        let claimed = &claimed(&app, "q", 1).await[0];
        let id = claimed["id"].as_str().unwrap();
        assert_eq!(say(&app, "q", claimed, what, end.clone()).await, 204);
        // What is tried again is claimed by another, under a lease of its own, and ends otherwise.
        if app.message("q", id).await["status"] == "PENDING" {
            let second = json(app.post("/queues/q/claim", &json!(null)).await, 200).await[0].take();
            assert_eq!(say(&app, "q", &second, "complete", json!({ "result": "second" })).await, 204);
        }
        let before = app.whole_message("q", id).await;
        for (other, (what, end)) in ends.iter().enumerate() {
            let expected = if other == first { 204 } else { 409 };
            assert_eq!(say(&app, "q", claimed, what, end.clone()).await, expected, "{first} {other}");
        }
        assert_eq!(app.whole_message("q", id).await, before, "nothing changed");
        if before["status"] == "ERROR" {
            // Run again by hand it is history, and was said all the same.
            json(app.post(&format!("/queues/q/messages/{id}/retry"), &json!(null)).await, 200).await;
            assert_eq!(say(&app, "q", claimed, what, end.clone()).await, 204);
            let again = json(app.post("/queues/q/claim", &json!(null)).await, 200).await[0].take();
            assert_eq!(say(&app, "q", &again, "complete", json!({})).await, 204);
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_different_ends_said_at_one_time_one_counts() {
    let app = TestApp::start().await;
    define(&app, "q", json!({ "concurrency": 100 })).await;
    for claimed in &claimed(&app, "q", MANY).await {
        let (one, other, failed) = tokio::join!(
            say(&app, "q", claimed, "complete", json!({ "result": 0 })),
            say(&app, "q", claimed, "complete", json!({ "result": 1 })),
            say(&app, "q", claimed, "fail", json!({ "error": 2 })),
        );
        let message = app.message("q", claimed["id"].as_str().unwrap()).await;
        let stored = [
            message["result"] == 0 && message["status"] == "COMPLETE",
            message["result"] == 1,
            message["error"] == 2,
        ];
        assert_eq!([one, other, failed].map(|status| status == 204), stored, "{message}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_a_message_that_is_deleted_meanwhile_is_not_said_to_count() {
    let app = TestApp::start().await;
    define(&app, "q", json!({})).await;
    let claimed = &claimed(&app, "q", 1).await[0];
    let id = claimed["id"].as_str().unwrap();
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    let mut lock = holder.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE leases IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let (status, ()) = tokio::join!(say(&app, "q", claimed, "complete", json!({ "result": 1 })), async {
        until_waiting(&mut db, 1).await;
        sqlx::raw_sql("DELETE FROM messages").execute(&mut db).await.unwrap();
        lock.commit().await.unwrap();
    });
    assert_eq!(status, 409);
    refusal(app.get(&format!("/queues/q/messages/{id}")).await, 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_commit_was_not_answered_is_answered_as_it_stands() {
    let proxy = Proxy::before(&database().await).await;
    let app = TestApp::on(proxy.options.clone(), &[], |app| app).await;
    define(&app, "q", json!({})).await;
    for (what, body) in [("complete", json!({ "result": 1 })), ("fail", json!({ "error": 1, "retry": "1h" }))]
    {
        let claimed = &claimed(&app, "q", 1).await[0];
        proxy.lose_the_answer_to(COMMIT);
        assert_eq!(say(&app, "q", claimed, what, body).await, 204);
        assert!(proxy.has_lost_it());
        let history = app.whole_message("q", claimed["id"].as_str().unwrap()).await["history"].take();
        assert_eq!(history.as_array().unwrap().len(), 1, "{history}");
        assert_eq!(history[0]["ending"], if what == "fail" { "retried" } else { "completed" });
    }
    app.stop().await;
}

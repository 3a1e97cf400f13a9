//! `conflict: replace`: a push gives the message that waits what it says itself, and is stored if that has begun.

use crate::support::answer::{json, text};
use crate::support::app::TestApp;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Executor as _;

async fn start(holds: &str) -> TestApp {
    let app = TestApp::start().await;
    let unique = json!({ "key": "/a", "while": holds, "conflict": "replace" });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": { "unique": unique } })).await;
    app
}

async fn push(app: &TestApp, query: &str, n: i64) -> (u16, Value) {
    let answer = app.post(&format!("/queues/q/messages{query}"), &json!({ "a": 1, "n": n })).await;
    let status = answer.status().as_u16();
    (status, json(answer, status).await)
}

/// What is claimed now.
async fn claimed(app: &TestApp) -> Vec<Value> {
    json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await.as_array().unwrap().clone()
}

/// In how many minutes a message is due.
async fn minutes(app: &TestApp, id: &Value) -> Option<i64> {
    let whole = app.whole_message("q", id.as_str().unwrap()).await;
    let run_at: DateTime<Utc> = whole["run_at"].as_str()?.parse().unwrap();
    let mut db = app.connect().await;
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut db).await.unwrap();
    Some((run_at - now).num_minutes())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_waits_takes_over_body_priority_and_time() {
    for holds in ["waiting", "unfinished", "24h"] {
        let app = start(holds).await;
        let (status, first) = push(&app, "?delay=1h&key=one", 1).await;
        assert_eq!(status, 201);
        assert_eq!(minutes(&app, &first["id"]).await, Some(59));
        let (status, second) = push(&app, "?delay=2h&priority=5&key=two", 2).await;
        assert_eq!((status, &second["id"]), (200, &first["id"]), "{holds}");
        assert_eq!((&second["request"]["n"], &second["status"]), (&json!(2), &json!("PENDING")));
        assert_eq!(minutes(&app, &first["id"]).await, Some(119));
        let whole = app.whole_message("q", first["id"].as_str().unwrap()).await;
        assert_eq!((&whole["priority"], &whole["key"]), (&json!(5), &json!("two")));
        // From a time to none, and back again.
        push(&app, "", 3).await;
        assert_eq!(minutes(&app, &first["id"]).await, None);
        push(&app, "?delay=1h", 4).await;
        assert_eq!(minutes(&app, &first["id"]).await, Some(59));
        assert_eq!(claimed(&app).await, Vec::<Value>::new(), "it waits for its time");
        push(&app, "", 5).await;
        let claimed = claimed(&app).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        assert_eq!((&claimed[0]["id"], &claimed[0]["request"]), (&first["id"], &json!({ "a": 1, "n": 5 })));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_it_runs_a_new_one_is_stored_and_that_one_is_replaced_from_then_on() {
    for holds in ["waiting", "unfinished", "24h"] {
        let app = start(holds).await;
        let (_, first) = push(&app, "", 1).await;
        assert_eq!(claimed(&app).await.len(), 1);
        let (status, second) = push(&app, "", 2).await;
        assert_eq!(status, 201, "{holds}");
        assert_ne!(first["id"], second["id"]);
        let (status, third) = push(&app, "", 3).await;
        assert_eq!((status, &third["id"]), (200, &second["id"]), "{holds}");
        assert_eq!(app.message("q", first["id"].as_str().unwrap()).await["request"]["n"], 1);
        let claimed = claimed(&app).await;
        assert_eq!((claimed.len(), &claimed[0]["request"]["n"]), (1, &json!(3)));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_ready_keeps_its_place_unless_its_priority_changes() {
    let app = start("waiting").await;
    push(&app, "", 1).await;
    for a in 2..4 {
        json(app.post("/queues/q/messages", &json!({ "a": a })).await, 201).await;
    }
    push(&app, "", 9).await;
    let order = async || {
        let mut db = app.connect().await;
        let order = "SELECT array_agg((m.request ->> 'a')::int ORDER BY d.rank, d.seq) FROM dispatch AS d
            JOIN messages AS m ON m.id = d.item";
        sqlx::query_scalar::<_, Vec<i32>>(order).fetch_one(&mut db).await.unwrap()
    };
    assert_eq!(order().await, [1, 2, 3]);
    push(&app, "?priority=-1", 9).await;
    assert_eq!(order().await, [2, 3, 1]);
    push(&app, "?priority=1", 9).await;
    assert_eq!(order().await, [1, 2, 3]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_in_one_batch_the_last_says_what_is_in_it() {
    let app = start("waiting").await;
    let (_, before) = push(&app, "", 0).await;
    let batch = json!([{ "a": 1, "n": 1 }, { "a": 2, "n": 1 }, { "a": 1, "n": 2 }, { "a": 2, "n": 2 }, { "a": 2, "n": 3 }]);
    let answer = json(app.post("/queues/q/messages:batch", &batch).await, 201).await;
    let (old, new) = (&before["id"], &answer[1]["id"]);
    let replaced = |id: &Value| json!({ "id": id, "unique": "replaced" });
    assert_eq!(answer, json!([replaced(old), { "id": new }, replaced(old), replaced(new), replaced(new)]));
    let claimed = claimed(&app).await;
    let found: Vec<(&Value, &Value)> = claimed.iter().map(|one| (&one["id"], &one["request"]["n"])).collect();
    assert_eq!(found, [(old, &json!(2)), (new, &json!(3))]);
    app.stop().await;
}

/// The claim of a worker, as a transaction that has not ended.
const CLAIM: &str = "BEGIN; DELETE FROM dispatch; INSERT INTO leases (expires_at, lease, holder, lane, ranks, items, attempts)
    SELECT now() + interval '1 minute', '1 minute', 'w', queue_id, '{0}', ARRAY[id], '{1}' FROM messages";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_claim_and_a_replacement_at_the_same_moment_the_one_that_comes_first_decides() {
    for (end, status) in [("COMMIT", 201), ("ROLLBACK", 200)] {
        let app = start("unfinished").await;
        let (_, first) = push(&app, "", 1).await;
        let mut worker = app.connect().await;
        worker.execute(CLAIM).await.unwrap();
        let replace = push(&app, "", 2);
        let claim = async {
            // One of another value, which is answered: so the first is on its way, and waits.
            json(app.post("/queues/q/messages", &json!({ "a": "other" })).await, 201).await;
            worker.execute(end).await.unwrap();
        };
        let ((found, answer), ()) = futures::join!(replace, claim);
        assert_eq!(found, status, "{end}: {answer}");
        assert_eq!(answer["id"] == first["id"], status == 200);
        let first = app.message("q", first["id"].as_str().unwrap()).await;
        let expected = if status == 200 { ("PENDING", 2) } else { ("INPROGRESS", 1) };
        assert_eq!((first["status"].as_str().unwrap(), first["request"]["n"].as_i64().unwrap()), expected);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_passes_over_a_message_that_is_being_replaced_and_finds_it_afterwards_as_it_is_then() {
    let app = start("unfinished").await;
    let (_, first) = push(&app, "", 1).await;
    let mut db = app.connect().await;
    db.execute("BEGIN; SELECT enqueue('q', '{\"a\": 1, \"n\": 2}')").await.unwrap();
    assert_eq!(claimed(&app).await, Vec::<Value>::new());
    db.execute("COMMIT").await.unwrap();
    let waited = json(app.post("/queues/q/claim?wait=5s", &json!(null)).await, 200).await;
    assert_eq!((&waited[0]["id"], &waited[0]["request"]["n"]), (&first["id"], &json!(2)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_deleted_while_it_is_to_be_replaced_does_not_take_the_push_along() {
    let app = start("unfinished").await;
    let (_, first) = push(&app, "?delay=1h", 1).await;
    let mut deleting = app.connect().await;
    deleting.execute("BEGIN; DELETE FROM messages").await.unwrap();
    let replace = push(&app, "", 2);
    let delete = async {
        text(app.post("/queues/q/messages", &json!({ "a": "other" })).await, 201).await;
        deleting.execute("DELETE FROM scheduled; COMMIT").await.unwrap();
    };
    let ((status, second), ()) = futures::join!(replace, delete);
    assert_eq!(status, 201);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(app.message("q", second["id"].as_str().unwrap()).await["request"]["n"], 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_leave_one_message_with_the_body_of_one_of_them() {
    let app = start("waiting").await;
    let pushes = (0..40).map(|n| {
        let app = &app;
        async move { push(app, if n % 2 == 0 { "?delay=1s" } else { "" }, n).await }
    });
    let answers = futures::future::join_all(pushes).await;
    let stored = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(stored, 1);
    assert!(
        answers
            .iter()
            .all(|(status, answer)| [200, 201].contains(status) && answer["id"] == answers[0].1["id"])
    );
    let waited = json(app.post("/queues/q/claim?wait=5s&max=10", &json!(null)).await, 200).await;
    assert_eq!(waited.as_array().unwrap().len(), 1);
    assert_eq!(waited[0]["id"], answers[0].1["id"]);
    let mut db = app.connect().await;
    let left = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled)";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap(), 0);
    app.stop().await;
}

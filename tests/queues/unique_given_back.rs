//! What was claimed and comes back, by hanging up, a stop, a lost worker or a retry: whether it holds its value again, and
//! whether it still runs where another message has taken that.

use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::hang_up::HangsUp;
use postrider::Message;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::time::Duration;

async fn define(app: &TestApp, rule: Value) {
    let options = json!({ "unique": rule, "max_attempts": 3, "retry": { "base": "1ms" } });
    app.define("q", json!({ "handler": { "kind": "worker" }, "options": options })).await;
}

fn body(n: i64) -> Value {
    json!({ "a": 1, "n": n })
}

/// Pushes; returns the status and the id that it is answered.
async fn push(app: &TestApp, n: i64) -> (u16, String) {
    let answer = app.post("/queues/q/messages", &body(n)).await;
    let status = answer.status().as_u16();
    let answer = answer.json::<Value>().await.unwrap();
    let id = if status == 409 { &answer["held_by"] } else { &answer["id"] };
    (status, id.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

/// What is claimed within a moment.
async fn claimed(app: &TestApp) -> Vec<Value> {
    json(app.post("/queues/q/claim?wait=3s&max=10", &json!(null)).await, 200)
        .await
        .as_array()
        .unwrap()
        .clone()
}

fn bodies(claimed: &[Value]) -> Vec<i64> {
    claimed.iter().map(|one| one["request"]["n"].as_i64().unwrap()).collect()
}

/// Has a worker hang up before its claim is answered, and does something between the claim and its giving back.
async fn hang_up<T>(app: &TestApp, meanwhile: impl AsyncFnOnce() -> T) -> T {
    let (mut claim, mut give_back) = (app.connect().await, app.connect().await);
    claim.execute("BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let gone = HangsUp::asks(app, &["system_admin"], "/queues/q/claim?wait=60s").await;
    gone.once_blocked(app, "messages").await;
    // It is next once the claim is through, and goes before the giving back.
    let next = give_back.execute("BEGIN; LOCK TABLE leases IN SHARE MODE");
    let through = async {
        let mut db = app.connect().await;
        let waits =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'leases'::regclass AND NOT granted)";
        eventually("it waits for the claim", async || {
            sqlx::query_scalar(waits).fetch_one(&mut db).await.unwrap()
        })
        .await;
        claim.execute("COMMIT").await.unwrap();
    };
    let (locked, ()) = futures::join!(next, through);
    locked.unwrap();
    let did = meanwhile().await;
    give_back.execute("COMMIT").await.unwrap();
    let mut db = app.connect().await;
    eventually("it is given back", async || {
        let left = "SELECT count(*) FROM leases";
        sqlx::query_scalar::<_, i64>(left).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    did
}

/// The end of a message that another replaces.
async fn is_replaced(app: &TestApp, old: &str, new: &str) {
    let end = app.ended("q", old).await;
    assert_eq!((&end["status"], &end["error"]["name"]), (&json!("ERROR"), &json!("Replaced")), "{end}");
    assert!(end["error"]["message"].as_str().unwrap().contains(new), "{end}");
    assert_eq!(end["request"]["n"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_received_waits_again_and_holds_its_value() {
    for (conflict, status) in [("existing", 200), ("replace", 200), ("reject", 409)] {
        let app = TestApp::start().await;
        define(&app, json!({ "key": "/a", "while": "waiting", "conflict": conflict })).await;
        let (_, first) = push(&app, 1).await;
        hang_up(&app, async || ()).await;
        assert_eq!(push(&app, 2).await, (status, first.clone()), "{conflict}");
        let claimed = claimed(&app).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        assert_eq!((&claimed[0]["id"], &claimed[0]["attempt"]), (&json!(first), &json!(1)));
        assert_eq!(bodies(&claimed), [if conflict == "replace" { 2 } else { 1 }]);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_received_does_not_run_after_what_replaces_it() {
    for holds in ["waiting", "unfinished", "24h"] {
        let app = TestApp::start().await;
        define(&app, json!({ "key": "/a", "while": holds, "conflict": "replace" })).await;
        let (_, first) = push(&app, 1).await;
        let (status, second) = hang_up(&app, async || push(&app, 2).await).await;
        assert_eq!(status, 201, "{holds}");
        assert_eq!(push(&app, 3).await, (200, second.clone()), "it is replaced from then on");
        assert_eq!(bodies(&claimed(&app).await), [3], "{holds}");
        is_replaced(&app, &first, &second).await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_received_runs_beside_a_newer_one_where_the_queue_does_not_replace() {
    for (conflict, status) in [("existing", 200), ("reject", 409)] {
        let app = TestApp::start().await;
        define(&app, json!({ "key": "/a", "while": "waiting", "conflict": conflict })).await;
        push(&app, 1).await;
        let (stored, second) = hang_up(&app, async || push(&app, 2).await).await;
        assert_eq!(stored, 201);
        assert_eq!(push(&app, 3).await, (status, second), "the newer one holds the value");
        let mut ran = bodies(&claimed(&app).await);
        ran.sort_unstable();
        assert_eq!(ran, [1, 2], "both were accepted");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_failed_or_was_lost_is_not_made_again_once_another_message_replaces_it() {
    for how in ["fail", "lose"] {
        let app = TestApp::start().await;
        define(&app, json!({ "key": "/a", "while": "waiting", "conflict": "replace" })).await;
        let (_, first) = push(&app, 1).await;
        let claim = claimed(&app).await.remove(0);
        let (status, second) = push(&app, 2).await;
        assert_eq!(status, 201);
        if how == "fail" {
            let failed = json!({ "lease": claim["lease"], "error": "no", "retry": true });
            let path = format!("/queues/q/messages/{first}/fail");
            assert_eq!(app.post(&path, &failed).await.status(), 204);
        } else {
            app.elapse(Duration::from_mins(5)).await;
        }
        let mut ran = Vec::new();
        eventually("the older ends", async || {
            ran.extend(bodies(&claimed(&app).await));
            app.message("q", &first).await["status"] == "ERROR"
        })
        .await;
        is_replaced(&app, &first, &second).await;
        assert_eq!(ran, [2], "{how}");
        let whole = app.whole_message("q", &first).await;
        assert_eq!(whole["history"].as_array().map(Vec::len), Some(2), "how it failed is kept: {whole}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_held_its_value_no_longer_is_not_replaced_and_is_tried_again() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a", "while": "1s", "conflict": "replace" })).await;
    let (_, first) = push(&app, 1).await;
    assert_eq!(bodies(&claimed(&app).await), [1]);
    app.elapse(Duration::from_mins(5)).await;
    assert_eq!(push(&app, 2).await.0, 201);
    let mut ran = Vec::new();
    eventually("both run", async || {
        ran.extend(bodies(&claimed(&app).await));
        ran.len() == 2
    })
    .await;
    assert_ne!(app.message("q", &first).await["status"], "ERROR");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopping_server_gives_back_holds_its_value_and_is_replaced_if_another_took_it() {
    let starts = |app: postrider::App| {
        app.handler("never", |_: Message| async {
            std::future::pending::<Result<Value, postrider::Failure>>().await
        })
    };
    for is_taken in [false, true] {
        let app = TestApp::with(&[("POSTRIDER_GRACE", "200ms")], starts).await;
        let options = json!({ "unique": { "key": "/a", "while": "waiting", "conflict": "replace" } });
        let native = json!({ "kind": "native", "name": "never" });
        app.define("q", json!({ "handler": native, "options": options })).await;
        let (_, first) = push(&app, 1).await;
        eventually("it runs", async || app.message("q", &first).await["status"] == "INPROGRESS").await;
        let second = if is_taken { Some(push(&app, 2).await.1) } else { None };
        let database = app.database.clone();
        app.stop().await;
        // Nobody there can run it: it waits.
        let app = TestApp::on(database, &[], |app| app).await;
        let (status, third) = push(&app, 3).await;
        assert_eq!(status, 200);
        assert_eq!(&third, second.as_ref().unwrap_or(&first), "{is_taken}");
        define(&app, json!({ "key": "/a", "while": "waiting", "conflict": "replace" })).await;
        assert_eq!(bodies(&claimed(&app).await), [3], "{is_taken}");
        if let Some(second) = second {
            is_replaced(&app, &first, &second).await;
        }
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_notes_nothing_of_what_is_not_unique() {
    let app = TestApp::start().await;
    define(&app, json!({ "key": "/a", "while": "waiting" })).await;
    app.push("q", &json!({ "b": 1 })).await;
    push(&app, 1).await;
    json(app.post("/queues/q/claim?max=10", &json!(null)).await, 200).await;
    let mut db = app.connect().await;
    let noted = "SELECT (m.request ->> 'a') IS NOT NULL, l.traceable FROM leases AS l JOIN messages AS m ON m.id = l.items[1]
        ORDER BY 1";
    let noted: Vec<(bool, Option<Vec<bool>>)> = sqlx::query_as(noted).fetch_all(&mut db).await.unwrap();
    assert_eq!(noted, [(false, None), (true, Some(vec![true]))]);
    app.stop().await;
}

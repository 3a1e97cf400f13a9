//! Definitions that change all the time: what is there to run runs, and what lost workers held comes back.

use super::{Gate, act, ask, work};
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinSet;

/// Queues beside the one that the test looks at.
const MANY: &str = r#"
    WITH revision AS (
        UPDATE catalog SET revision = revision + 1 RETURNING revision
    ),
    lane AS (
        INSERT INTO lanes (kind) SELECT 'queue' FROM generate_series(1, 4000) RETURNING id
    )
    INSERT INTO queues (id, name, definition, version)
    SELECT id, 'many-' || id, '{"handler": {"kind": "native", "name": "work"}}', revision FROM lane, revision
"#;

#[tokio::test(flavor = "multi_thread")]
async fn while_definitions_change_without_a_pause_sql_is_heard_and_the_dead_give_back() {
    let gate = Gate::shut();
    let app = Arc::new(
        TestApp::with(&[("POSTRIDER_LEASE", "3s")], |app| app.handler("work", gate.handler())).await,
    );
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let mut db = app.connect().await;
    act(&mut db, MANY).await;
    let held = app.push("q", &json!("held")).await;
    gate.until_running(1).await;

    // Two connections change the catalog as fast as they can, and one client puts a definition again and again.
    let (over, puts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut changing = JoinSet::new();
    for _ in 0..2 {
        let (over, mut db) = (Arc::clone(&over), app.connect().await);
        db.execute("SET synchronous_commit = off").await.unwrap();
        changing.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                db.execute("UPDATE catalog SET revision = revision + 1").await.unwrap();
            }
        });
    }
    {
        let (app, over, puts) = (Arc::clone(&app), Arc::clone(&over), Arc::clone(&puts));
        changing.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let concurrency = 1 + puts.load(Ordering::SeqCst) % 2;
                app.define("changes", work(json!({ "concurrency": concurrency }))).await;
                puts.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    eventually("definitions change", async || puts.load(Ordering::SeqCst) > 3).await;
    act(&mut db, "DELETE FROM workers").await;
    eventually("what the lost worker held runs again", async || {
        gate.begun().iter().filter(|begun| begun.id.to_string() == held).count() == 2
    })
    .await;
    gate.open_up();
    for number in 0..5 {
        // Of queues from which nothing was ever claimed: a look alone finds it.
        let enqueue = format!(
            "SELECT name || ' ' || enqueue(name, '1') FROM queues WHERE name LIKE 'many%' \
                               ORDER BY name OFFSET {number} LIMIT 1"
        );
        let made: String = sqlx::query_scalar(AssertSqlSafe(enqueue)).fetch_one(&mut db).await.unwrap();
        let (queue, id) = made.split_once(' ').unwrap();
        let message = super::ended(&app, queue, id).await;
        assert_eq!(message["status"], "COMPLETE", "{message}");
    }
    // A message that is pushed after the answer to a change runs under the change.
    app.define("newest", work(json!({}))).await;
    let id = app.push("newest", &json!("first")).await;
    assert_eq!(super::ended(&app, "newest", &id).await["status"], "COMPLETE");
    over.store(true, Ordering::SeqCst);
    changing.join_all().await;
    assert_eq!(app.get("/readyz").await.status(), 200);
    Arc::into_inner(app).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_learns_of_what_is_changed_deleted_and_made() {
    let database = crate::support::app::database().await;
    let one = TestApp::on(database.clone(), &[], |app| app).await;
    let two = TestApp::on(database, &[], |app| app).await;
    for name in ["stays", "changes", "goes"] {
        one.define(name, work(json!({}))).await;
    }
    let of = |app: &TestApp| {
        let request = app.request(reqwest::Method::GET, "/queues");
        async move {
            let queues: Value = request.send().await.unwrap().json().await.unwrap();
            let name = |queue: &Value| queue["name"].as_str().unwrap().to_owned();
            queues.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
        }
    };
    eventually("it knows them", async || of(&two).await == ["changes", "goes", "stays"]).await;
    assert_eq!(one.delete("/queues/goes").await.status(), 204);
    one.define("changes", work(json!({ "concurrency": 7 }))).await;
    one.define("new", work(json!({}))).await;
    eventually("it knows what became of them", async || of(&two).await == ["changes", "new", "stays"]).await;
    let changed: Value = two.get("/queues/changes").await.json().await.unwrap();
    assert_eq!(changed["options"]["concurrency"], 7, "{changed}");
    // One that is made again under its name is another.
    assert_eq!(two.delete("/queues/new").await.status(), 204);
    one.define("new", work(json!({ "concurrency": 3 }))).await;
    eventually("it knows the new one", async || {
        let new: Value = two.get("/queues/new").await.json().await.unwrap();
        new["options"]["concurrency"] == 3
    })
    .await;
    let mut db = one.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM queues").await, 3);
    two.stop().await;
    one.stop().await;
}

//! Shares of a process's room: what hangs leaves room for what does not.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::TestApp;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::scripted::{Reply, Scripted};
use serde_json::{Value, json};

/// Messages of `queue`, one after another: each ends before the next is pushed.
async fn one_by_one(app: &TestApp, queue: &str) {
    for number in 0..20 {
        let id = app.push(queue, &json!(number)).await;
        assert_eq!(ended(app, queue, &id).await["status"], "COMPLETE");
    }
}

fn http(url: &str) -> Value {
    let options = json!({ "concurrency": 10_000, "timeout": "10m" });
    json!({ "handler": { "kind": "http", "url": url }, "options": options })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_url_hangs_leaves_room_for_all_others_whatever_its_concurrency_is() {
    let (hanging, prompt) =
        (Endpoint::start(|_| "1".to_owned()).await, Endpoint::start(|_| "2".to_owned()).await);
    hanging.hold();
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("hangs", http(&hanging.url)).await;
    app.define("answers", http(&prompt.url)).await;
    app.define("native", work(json!({}))).await;
    let messages: Vec<Value> = (0..4500).map(Value::from).collect();
    push_all(&app, "/queues/hangs/messages:batch", &messages).await;
    eventually("many hang", async || hanging.held() > 1000).await;
    one_by_one(&app, "native").await;
    one_by_one(&app, "answers").await;
    assert!(hanging.held() > 1000, "they hang still");
    hanging.release();
    app.server.run_until_idle().await.unwrap();
    assert_eq!(hanging.runs().len(), 4500);
    app.stop().await;
}

/// As many pollers as there is room in a process, and more, each of which is to run.
const POLLERS: &str = "
    WITH first AS (
        SELECT store_id, definition, version FROM pollers
    ),
    lane AS (
        INSERT INTO lanes (kind) SELECT 'poller' FROM generate_series(1, 4300) RETURNING id
    ),
    made AS (
        INSERT INTO pollers (id, store_id, name, definition, version, queued)
        SELECT lane.id, first.store_id, 'shop-' || lane.id, first.definition, first.version, true FROM lane, first
        RETURNING id, item
    )
    INSERT INTO dispatch (lane, rank, item) SELECT id, 0, item FROM made
";

#[tokio::test(flavor = "multi_thread")]
async fn storefronts_that_hang_leave_room_for_queues_of_every_kind() {
    let shop = Scripted::start(|_| Reply::Hangs).await;
    let prompt = Endpoint::start(|_| "2".to_owned()).await;
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("answers", http(&prompt.url)).await;
    app.define("native", work(json!({}))).await;
    let poller =
        json!({ "api": format!("{}/api/", shop.url), "every": "24h", "timeout": "10m", "enabled": true });
    assert_eq!(app.put("/stores/s1/pollers/shop", &poller).await.status(), 201);
    let mut db = app.connect().await;
    // One transaction: who learns of the change finds the pollers.
    let all = format!(
        "BEGIN; {POLLERS}; UPDATE pollers SET version = (SELECT revision + 1 FROM catalog); \
                       UPDATE catalog SET revision = revision + 1; COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(&mut db).await.unwrap();
    act(&mut db, "NOTIFY postrider_postrider").await;
    eventually("many hang", async || shop.open() > 1000).await;
    one_by_one(&app, "native").await;
    one_by_one(&app, "answers").await;
    assert!(shop.open() > 1000, "they hang still");
    let leased: i64 = ask(&mut db, "SELECT sum(cardinality(items))::bigint FROM leases").await;
    assert!(leased > 1000);
    app.server.stop_within(std::time::Duration::ZERO).await;
}

/// Queues that each have one message, far more than one claim asks for.
const QUEUES: &str = r#"
    WITH lane AS (
        INSERT INTO lanes (kind) SELECT 'queue' FROM generate_series(1, 3000) RETURNING id
    ),
    made AS (
        INSERT INTO queues (id, name, definition, version)
        SELECT id, 'many-' || id, '{"handler": {"kind": "native", "name": "work"}}', revision + 1 FROM lane, catalog
        RETURNING id
    ),
    messages AS (
        INSERT INTO messages (queue_id, id, request) SELECT id, uuid_v7(), '1' FROM made RETURNING queue_id, id
    ),
    changed AS (
        UPDATE catalog SET revision = revision + 1
    )
    INSERT INTO dispatch (lane, rank, item) SELECT queue_id, 0, id FROM messages
"#;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_queues_of_which_each_wants_little_all_have_their_turn() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    let mut db = app.connect().await;
    act(&mut db, QUEUES).await;
    // None of them ends: each has its place beside all the others.
    gate.until_running(3000).await;
    gate.open_up();
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.runs().len(), 3000);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM outcomes WHERE status = 'COMPLETE'").await, 3000);
    app.stop().await;
}

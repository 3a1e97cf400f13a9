//! What is left when messages and queues go: nothing.

use super::{Gate, act, ask, push_all, work};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::weeks::{make_week, past_weeks, tidier, untidy};
use serde_json::json;
use sqlx::Connection as _;

/// Everything that lies in the engine's tables.
const LEFT: &str = "SELECT (SELECT count(*) FROM dispatch) + (SELECT count(*) FROM scheduled) \
                    + (SELECT count(*) FROM leases)";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_deleted_between_claim_and_load_leaves_no_lease() {
    let gate = Gate::open();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let id = app.push("q", &json!("hello")).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    // A claim needs dispatch and leases alone; loading needs the message.
    let mut deletes = holder.begin().await.unwrap();
    act(&mut deletes, "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE; DELETE FROM messages").await;
    app.post("/queues/q/resume", &json!(null)).await;
    eventually("it is claimed", async || ask::<i64>(&mut db, "SELECT count(*) FROM leases").await == 1).await;
    deletes.commit().await.unwrap();
    eventually("the lease ends", async || ask::<i64>(&mut db, LEFT).await == 0).await;
    assert_eq!(app.get(&format!("/queues/q/messages/{id}")).await.status(), 404);
    app.handled("q", &json!("next")).await;
    assert_eq!(gate.begun().len(), 1, "the room came back, and only the next one ran");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_never_runs_and_leaves_nothing() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let mut ids = push_all(&app, "/queues/q/messages:batch", &[json!("runs"), json!("waits")]).await;
    ids.extend(push_all(&app, "/queues/q/messages:batch?delay=1h", &[json!("scheduled")]).await);
    gate.until_running(1).await;
    // Those that wait first: the place of the one that runs would be theirs.
    for id in ids.iter().rev() {
        assert_eq!(app.delete(&format!("/queues/q/messages/{id}")).await.status(), 204);
    }
    gate.until_running(0).await;
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 1);
    assert_eq!(ask::<i64>(&mut app.connect().await, LEFT).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_leaves_nothing_once_it_was_tidied_up() {
    let gate = Gate::shut();
    let app = TestApp::with(&[], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    let messages = ["a", "b", "c", "d"].map(|body| json!(body));
    push_all(&app, "/queues/q/messages:batch", &messages).await;
    push_all(&app, "/queues/q/messages:batch?delay=1h", &messages).await;
    gate.until_running(2).await;
    assert_eq!(app.delete("/queues/q").await.status(), 204);
    // The new queue of the same name has nothing to do with it.
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    gate.open_up();
    let message = app.handled("q", &json!("new")).await;
    assert_eq!(message["status"], "COMPLETE");
    assert_eq!(
        gate.begun().iter().filter(|begun| begun.request != "new").count(),
        2,
        "what waited never ran"
    );
    let tidier = tidier(&app).await;
    let mut db = app.connect().await;
    eventually("nothing is left", async || ask::<i64>(&mut db, LEFT).await == 0).await;
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_of_a_worker_that_died_and_held_nothing_goes() {
    let app = untidy(|app| app).await;
    let mut db = app.connect().await;
    let dead = "INSERT INTO workers (id, name, heartbeat, lease, capacity)
        VALUES (gen_random_uuid(), 'dead', now() - interval '1 hour', '30 seconds', 1)";
    act(&mut db, dead).await;
    let left = "SELECT count(*) FROM workers WHERE name = 'dead'";
    assert_eq!(ask::<i64>(&mut db, left).await, 1);
    let tidier = tidier(&app).await;
    eventually("it goes", async || ask::<i64>(&mut db, left).await == 0).await;
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_is_dropped_while_much_of_a_deleted_queue_is_still_to_be_swept() {
    let app = untidy(|app| app).await;
    app.define("q", json!({ "options": { "retention": "1h" } })).await;
    let mut db = app.connect().await;
    make_week(&mut db, "queues", "2020-03-02 00:00+00").await;
    // How much of it there was when a week went.
    act(
        &mut db,
        "INSERT INTO dispatch (lane, rank, item) SELECT 1000000, 0, uuid_v7() FROM generate_series(1, 20000);
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + n * interval '1 hour', 1000000, 0, uuid_v7() FROM generate_series(1, 20000) AS n;
        CREATE TABLE seen (ready bigint, later bigint);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen SELECT (SELECT count(*) FROM dispatch), (SELECT count(*) FROM scheduled);
            RETURN NULL;
        END $$;
        CREATE TRIGGER see AFTER DELETE ON weeks FOR EACH ROW EXECUTE FUNCTION see()",
    )
    .await;
    let tidier = tidier(&app).await;
    eventually("the week goes", async || past_weeks(&mut db).await == 0).await;
    assert!(ask::<bool>(&mut db, "SELECT ready > 0 AND later > 0 FROM seen").await);
    eventually("nothing is left", async || ask::<i64>(&mut db, LEFT).await == 0).await;
    let told = "SELECT count(*) FROM duties WHERE name = 'retention' AND note IS NULL AND until > now()";
    eventually("nothing is noted", async || ask::<i64>(&mut db, told).await == 1).await;
    tidier.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_queue_left_among_what_others_have_goes_and_theirs_stays() {
    let app = untidy(|app| app).await;
    app.define("q", json!({})).await;
    let mut db = app.connect().await;
    act(
        &mut db,
        "INSERT INTO dispatch (lane, rank, item)
        SELECT lane, n % 3, uuid_v7()
        FROM generate_series(1, 5000) AS n, unnest(ARRAY[(SELECT id FROM queues), -7, 1000000, 1000001]) AS l (lane);
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + n % 7 * interval '1 hour' + interval '1 day', lane, 0, uuid_v7()
        FROM generate_series(1, 12000) AS n, unnest(ARRAY[(SELECT id FROM queues), 1000000]) AS l (lane)",
    )
    .await;
    let tidier = tidier(&app).await;
    eventually("what nobody has goes", async || ask::<i64>(&mut db, LEFT).await == 17_000).await;
    let theirs = "SELECT (SELECT count(*) FROM dispatch JOIN queues ON id = lane)
        + (SELECT count(*) FROM scheduled JOIN queues ON id = lane)";
    assert_eq!(ask::<i64>(&mut db, theirs).await, 17_000);
    tidier.stop().await;
    app.stop().await;
}

//! `postrider doctor`: what it finds in order, and what not.

use super::{command, finish, run};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::server::server;
use crate::support::weeks::untidy;
use axum::http::Method;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_content_with_a_server_that_runs_and_tells_what_waits() {
    let app = TestApp::start().await;
    app.define("halted", json!({ "handler": { "kind": "worker" } })).await;
    app.post("/queues/halted/pause", &json!(null)).await;
    app.define("idle", json!({})).await;
    let mut lines = String::new();
    eventually("its worker lives", async || {
        let done = run(&app.database, &["doctor"]).await;
        assert!(done.ok && !done.out.contains("FAIL"), "{done:?}");
        lines = done.out;
        lines.contains("ok    1 workers live")
    })
    .await;
    for line in [
        "ok    PostgreSQL 1",
        "ok    fsync = on",
        "ok    the schema is of this version",
        "ok    the partitions of the next week are there",
        "ok    no row lies outside its week",
        "the upkeep",
        "warn  without a handler: idle",
        "warn  paused: halted",
    ] {
        assert!(lines.contains(line), "{line}\n{lines}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_the_hub_cannot_deliver_and_what_it_left_undone() {
    let app = TestApp::start().await;
    app.endpoint("away", "http://127.0.0.1:1", json!({ "breaker": { "failures": 1, "cooldown": "1h" } }))
        .await;
    app.mapping("ship", "away", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    app.mapping("poll", "away", &[], json!({ "schedule": { "every": "1h", "message": "orders:poll" } }))
        .await;
    let poller = json!({ "api": "http://127.0.0.1:1", "every": "1h" });
    assert_eq!(app.put("/stores/s1/pollers/shop", &poller).await.status(), 201);
    app.tell("order:new", json!({})).await;
    let mut lines = String::new();
    eventually("its delivery is parked", async || {
        lines = run(&app.database, &["doctor"]).await.out;
        lines.contains("warn  1 deliveries are parked")
    })
    .await;
    for line in [
        "ok    what connections start with arrives at the server",
        "ok    1 endpoints are defined",
        "warn  their circuits are open: s1/away",
        "ok    0 schedules are overdue",
        "ok    0 messages of the hub have waited",
        "ok    0 deliveries wait at endpoints that were deleted",
    ] {
        assert!(lines.contains(line), "{line}\n{lines}");
    }
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    sqlx::raw_sql(
        "UPDATE schedules SET next_at = now() - interval '2 minutes' WHERE kind = 'mapping';
        UPDATE pollers SET failures = 2;
        WITH retired AS (
            INSERT INTO lanes (kind, removed_at) VALUES ('endpoint', now() - interval '16 minutes') RETURNING id
        )
        INSERT INTO dispatch (lane, rank, item) SELECT id, 0, uuid_v7() FROM retired;
        WITH waits AS (
            INSERT INTO hub_messages (store_id, state, id, message, payload)
            SELECT id, 'pending', uuid_v7(now() - interval '2 minutes'), 'order:new', '{}'
            FROM stores
            CROSS JOIN generate_series(1, 2)
            RETURNING id
        )
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT now() + interval '1 hour', lanes.id, 0, waits.id
        FROM waits
        JOIN lanes ON lanes.kind = 'router'
        LIMIT 1",
    )
    .execute(&mut db)
    .await
    .unwrap();
    let overdue = "1 schedules are overdue";
    let pending = "1 messages of the hub have waited";
    let astray = "1 deliveries wait at endpoints that were deleted";
    let doctor = run(&database, &["doctor"]).await;
    for line in [overdue, pending, astray, "pollers that fail: s1/shop"] {
        assert!(doctor.ok && doctor.out.contains(&format!("warn  {line}")), "{line}\n{}", doctor.out);
    }
    // Somebody who lives would have done it.
    db.execute(
        "INSERT INTO workers (id, name, lease, capacity) VALUES (gen_random_uuid(), 'idle', '1 hour', 1)",
    )
    .await
    .unwrap();
    let doctor = run(&database, &["doctor"]).await;
    for line in [overdue, pending, astray] {
        assert!(!doctor.ok && doctor.out.contains(&format!("FAIL  {line}")), "{line}\n{}", doctor.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_says_of_the_work_is_of_one_moment() {
    let app = TestApp::start().await;
    app.endpoint("away", "http://127.0.0.1:1", json!({ "breaker": { "failures": 1, "cooldown": "1h" } }))
        .await;
    app.mapping("ship", "away", &["order:*"], json!({ "options": { "retries_allowed": false } })).await;
    app.tell("order:new", json!({})).await;
    eventually("its delivery is parked", async || {
        run(&app.database, &["doctor"]).await.out.contains("warn  1 deliveries are parked")
    })
    .await;
    let (database, mut db, mut looker) = (app.database.clone(), app.connect().await, app.connect().await);
    app.stop().await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("UPDATE circuits SET open_until = NULL, told = false, failures = 0").await.unwrap();
    tx.execute("LOCK TABLE ONLY deliveries IN ACCESS EXCLUSIVE MODE").await.unwrap();
    tx.execute("UPDATE deliveries SET archived_at = now()").await.unwrap();
    let committed = async {
        eventually("doctor waits for the deliveries, having read the endpoints", async || {
            let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'deliveries'::regclass)";
            sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut looker).await.unwrap()
        })
        .await;
        tx.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(run(&database, &["doctor"]), committed);
    for line in ["warn  their circuits are open: s1/away", "warn  1 deliveries are parked"] {
        assert!(done.out.contains(line), "{line}\n{}", done.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_said_so_and_no_server_is_ready_on_it() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    let lines = run(&app.database, &["doctor"]).await.out;
    assert!(!lines.contains("takes no writes"), "{lines}");
    db.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await
    .unwrap();
    eventually("it is not ready, and says that it is the database", async || {
        let ready = app.anonymous(Method::GET, "/readyz").send().await.unwrap();
        ready.status() == 503 && ready.text().await.unwrap().contains("\"database\"")
    })
    .await;
    let lines = run(&app.database, &["doctor"]).await.out;
    assert!(lines.contains("FAIL  the database takes no writes: default_transaction_read_only"), "{lines}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_what_loses_messages_and_what_cannot_start() {
    server().await.create_database("sick", "template1").await;
    let database = server().await.connect_options("sick");
    let mut db = database.connect().await.unwrap();
    db.execute("ALTER DATABASE sick SET synchronous_commit = off").await.unwrap();
    let done = run(&database, &["doctor"]).await;
    assert!(!done.ok);
    for line in ["FAIL  synchronous_commit = off", "FAIL  the schema is not there", "postrider migrate"] {
        assert!(done.out.contains(line), "{line}\n{}", done.out);
    }
    let mut keyless = command(&database, &["doctor"]).await;
    keyless.env_remove("POSTRIDER_JWT_SECRET");
    let keyless = finish(keyless, "").await;
    assert!(!keyless.ok && keyless.out.contains("FAIL  no key to verify tokens with"), "{keyless:?}");
    let mut weak = command(&database, &["doctor"]).await;
    weak.env("POSTRIDER_JWT_SECRET", "hunter2");
    let weak = finish(weak, "").await;
    assert!(weak.out.contains("FAIL  no token can be verified") && !weak.out.contains("hunter2"), "{weak:?}");
    let mut wrong = command(&database, &["doctor"]).await;
    wrong.env("POSTRIDER_LEASE", "soon");
    let wrong = finish(wrong, "").await;
    assert!(!wrong.ok && wrong.out.contains("FAIL  POSTRIDER_LEASE"), "{wrong:?}");
    let mut nowhere = command(&database, &["doctor"]).await;
    nowhere.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
    let nowhere = finish(nowhere, "").await;
    assert!(!nowhere.ok && nowhere.out.contains("FAIL  the database does not answer"), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_and_the_reports_do_not_count_the_dead_as_living_whose_stamps_lie_in_the_future() {
    let app = TestApp::start().await;
    app.define("q", json!({ "handler": { "kind": "worker" } })).await;
    let id = app.push("q", &json!("hello")).await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    // Nobody takes back what the dead hold.
    app.stop().await;
    db.execute(
        "INSERT INTO workers (id, name, lease, capacity, heartbeat)
        SELECT gen_random_uuid(), 'dead', '3 seconds', 1, now() + interval '1 hour';
        WITH taken AS (DELETE FROM dispatch RETURNING lane, rank, item)
        INSERT INTO leases (worker, lane, ranks, items, attempts)
        SELECT workers.id, lane, ARRAY[rank], ARRAY[item], '{1}' FROM taken CROSS JOIN workers",
    )
    .await
    .unwrap();
    let lines = run(&database, &["doctor"]).await.out;
    for line in ["no worker lives", "1 workers died", "1 leases are over"] {
        assert!(lines.contains(line), "{line}\n{lines}");
    }
    let report = run(&database, &["report", "stuck_work"]).await.out;
    assert!(report.contains("lease is over") && report.contains(&id), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_the_upkeep_has_not_come_to_the_end_of_and_when_nobody_does_it() {
    let app = untidy(|app| app).await;
    let mut db = app.connect().await;
    let behind = "UPDATE duties SET note = 'it moves rows', noted_at = now() - interval '5 minutes' WHERE name = 'hub';
        UPDATE duties SET note = 'it drops weeks', noted_at = now() WHERE name = 'retention'";
    sqlx::raw_sql(behind).execute(&mut db).await.unwrap();
    let lines = run(&app.database, &["doctor"]).await.out;
    assert!(lines.contains("warn  the upkeep of the hub is not done (00:05:0"), "{lines}");
    assert!(lines.contains("so far): it moves rows"), "{lines}");
    assert!(lines.contains("ok    the upkeep of the queues is under way: it drops weeks"), "{lines}");
    let left = "UPDATE workers SET started_at = now() - interval '11 minutes';
        UPDATE duties SET last_at = now() - interval '11 minutes' WHERE name = 'hub'";
    sqlx::raw_sql(left).execute(&mut db).await.unwrap();
    let lines = run(&app.database, &["doctor"]).await.out;
    assert!(lines.contains("FAIL  nobody has done the upkeep of the hub for ten minutes"), "{lines}");
    app.stop().await;
}

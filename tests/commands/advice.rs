//! What doctor and the reports say of work that nobody does and of what must be there, and that their advice is the right
//! one.

use super::{command, finish, run};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::Scripted;
use axum::http::Method;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use std::time::Duration;

async fn echo(message: Message) -> Result<Value, Failure> {
    message.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_handler_no_living_process_has_is_told_with_what_to_start() {
    let app = TestApp::start().await;
    app.define("resize", json!({ "handler": { "kind": "native", "name": "thumbnails" } })).await;
    app.define_javascript("shout", "module.exports = async (m) => m;").await;
    let message = app.push("resize", &json!({})).await;
    app.ended("shout", &app.push("shout", &json!({})).await).await;
    let failing =
        "FAIL  no process lives that has the native handlers of: resize (thumbnails), and messages wait";
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains(failing), "{doctor:?}");
    assert!(doctor.out.contains("start the program that registers them"), "{doctor:?}");
    assert!(!doctor.out.contains("JavaScript"), "{doctor:?}");
    let report = run(&app.database, &["report", "oldest_due"]).await.out;
    assert!(report.contains("native handler thumbnails: start the program"), "{report}");

    // A process that has it: the queue is in order, and the message runs.
    let other = TestApp::on(app.database.clone(), &[], |app| app.handler("thumbnails", echo)).await;
    app.ended("resize", &message).await;
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(doctor.ok && !doctor.out.contains("native handlers"), "{doctor:?}");
    // One that neither has it nor runs JavaScript is of no help.
    let (database, mut db) = (app.database.clone(), app.connect().await);
    other.stop().await;
    let paused = app.push("resize", &json!({})).await;
    app.post("/queues/shout/pause", &json!(null)).await;
    let waiting = app.push("shout", &json!({})).await;
    app.stop().await;
    db.execute(
        "UPDATE queues SET paused_at = NULL;
        INSERT INTO workers (id, name, lease, capacity) VALUES (gen_random_uuid(), 'bare', '1 hour', 1);
        -- So that the two have waited for long.
        WITH old AS (SELECT id, uuid_v7(now() - interval '1 minute') AS as_old FROM messages JOIN dispatch ON item = id),
            moved AS (UPDATE dispatch SET item = as_old FROM old WHERE item = old.id)
        UPDATE messages SET id = as_old FROM old WHERE messages.id = old.id",
    )
    .await
    .unwrap();
    let doctor = run(&database, &["doctor"]).await;
    let javascript = "FAIL  no process lives that runs JavaScript, for: shout, and messages wait";
    for line in [failing, javascript, "start `postrider serve` or `postrider worker`"] {
        assert!(!doctor.ok && doctor.out.contains(line), "{line}\n{doctor:?}");
    }
    let report = run(&database, &["report", "stuck_work"]).await.out;
    for line in ["nobody runs it", "start the program that has the native handler thumbnails"] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    let report = run(&database, &["report", "oldest_due"]).await.out;
    assert!(report.contains("no process lives that runs JavaScript"), "{report}");
    // Where nobody lives at all, a server runs JavaScript, and has no native handler.
    db.execute("DELETE FROM workers").await.unwrap();
    let doctor = run(&database, &["doctor"]).await;
    assert!(doctor.ok && doctor.out.contains("warn  no worker lives, and 2 messages wait"), "{doctor:?}");
    assert!(
        doctor.out.contains(failing.trim_start_matches("FAIL  ").trim_end_matches(", and messages wait"))
    );
    let report = run(&database, &["report", "oldest_due"]).await.out;
    assert!(report.contains("no worker lives: start postrider serve"), "{report}");
    assert!(report.contains("native handler thumbnails"), "{report}");
    drop((paused, waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_something_is_sealed_with_must_be_there() {
    let app = TestApp::start().await;
    let agent = |method, path: &str| app.request_as(&["customer_agent"], method, path);
    let with_key = async |key: Option<&str>| {
        let mut doctor = command(&app.database, &["doctor"]).await;
        doctor.env_remove("POSTRIDER_SECRET_KEY");
        doctor.envs(key.map(|key| ("POSTRIDER_SECRET_KEY", key)));
        finish(doctor, "").await
    };
    let doctor = with_key(None).await;
    assert!(
        doctor.ok && doctor.out.contains("ok    nothing is sealed, and POSTRIDER_SECRET_KEY"),
        "{doctor:?}"
    );
    let jobs = "/place_card_on_single_site_jobs";
    let create = async |body: Value| {
        assert_eq!(agent(Method::POST, jobs).json(&body).send().await.unwrap().status(), 201);
    };
    create(json!({ "cardholder_id": 7 })).await;
    let doctor = with_key(None).await;
    assert!(
        doctor.ok && doctor.out.contains("warn  POSTRIDER_SECRET_KEY is not set, and there are jobs"),
        "{doctor:?}"
    );
    create(json!({ "cardholder_id": 7, "password": "hunter2" })).await;
    app.parameter("realm", json!("hunter2"), "password").await;
    let (ours, other) =
        ("a key of the tests of at least 32 characters", "another key of the tests of 32 characters too");
    let doctor = with_key(None).await;
    let missing = "FAIL  POSTRIDER_SECRET_KEY is not set, and there are sealed secrets in: jobs";
    assert!(!doctor.ok && doctor.out.contains(missing), "{doctor:?}");
    let doctor = with_key(Some(other)).await;
    let missing = "FAIL  POSTRIDER_SECRET_KEY lacks a key that secrets are sealed with in: jobs";
    assert!(!doctor.ok && doctor.out.contains(missing), "{doctor:?}");
    for keys in [ours, &format!("{other},{ours}")] {
        let doctor = with_key(Some(keys)).await;
        assert!(doctor.ok && doctor.out.contains("ok    the keys are there"), "{doctor:?}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_waits_nowhere_is_told_and_the_advice_sends_it() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("e", &endpoint.url, json!({})).await;
    app.mapping("off", "e", &["held:new"], json!({ "enabled": false })).await;
    app.mapping("ship", "e", &["order:*"], json!({ "enabled": false })).await;
    app.tell("held:new", json!({})).await;
    let id = app.tell("order:new", json!({})).await;
    let mut db = app.connect().await;
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(doctor.ok && doctor.out.contains("ok    0 deliveries wait nowhere"), "{doctor:?}");
    let delivery = app.told(&id).await["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let lose = format!("DELETE FROM held_deliveries WHERE delivery_id = '{delivery}'");
    db.execute(AssertSqlSafe(lose)).await.unwrap();
    // Switching on sends what is held; this one is not.
    app.mapping("ship", "e", &["order:*"], json!({})).await;
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(
        !doctor.ok && doctor.out.contains("FAIL  1 deliveries have not ended and wait nowhere"),
        "{doctor:?}"
    );
    let report = run(&app.database, &["report", "stuck_work"]).await.out;
    for words in ["lost delivery", "s1/ship", &delivery, "/retry"] {
        assert!(report.contains(words), "{words}\n{report}");
    }
    let path = format!("/stores/s1/deliveries/{delivery}/retry");
    assert_eq!(app.post(&path, &json!({})).await.status(), 200);
    app.delivered(&id, "COMPLETE").await;
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(doctor.ok && doctor.out.contains("ok    0 deliveries wait nowhere"), "{doctor:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_another_programs_is_told_and_no_server_is_ready_on_it() {
    let app = TestApp::start().await;
    let mut db = app.connect().await;
    let ready = async || {
        let ready = app.anonymous(Method::GET, "/readyz").send().await.unwrap();
        (ready.status().as_u16(), ready.json::<Value>().await.unwrap()["red"].clone())
    };
    assert_eq!(ready().await, (200, json!([])));
    // A newer program has been here: this one goes on, and does not start again.
    let newer = "INSERT INTO _sqlx_migrations SELECT 99991231000000, 'later', now(), true, '\\x00', 1";
    db.execute(newer).await.unwrap();
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains("newer version"), "{doctor:?}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(ready().await, (200, json!([])));
    let other = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = (SELECT min(version) FROM _sqlx_migrations)";
    db.execute(other).await.unwrap();
    eventually("it is not ready", async || ready().await == (503, json!(["schema"]))).await;
    let doctor = run(&app.database, &["doctor"]).await;
    assert!(!doctor.ok && doctor.out.contains("is not the one that was applied"), "{doctor:?}");
    assert!(doctor.out.contains("use the program that made this schema"), "{doctor:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_leaves_of_a_process_that_lives_is_no_death() {
    let app = TestApp::start().await;
    let (database, mut db) = (app.database.clone(), app.connect().await);
    app.stop().await;
    // One that registered anew, with the row that it had before.
    db.execute(
        "INSERT INTO workers (id, name, process, heartbeat, lease, capacity, given_up_at)
        VALUES
            (gen_random_uuid(), 'host:1', '00000000-0000-0000-0000-000000000001', now(), '1 hour', 1, NULL),
            (gen_random_uuid(), 'host:1', '00000000-0000-0000-0000-000000000001', now() - interval '1 day', '15 seconds', 1, now())",
    )
    .await
    .unwrap();
    let lines = run(&database, &["doctor"]).await.out;
    assert!(lines.contains("ok    1 workers live") && lines.contains("ok    0 workers died"), "{lines}");
    // The same name is not the same process: a container that was killed comes back under its name.
    db.execute("UPDATE workers SET process = gen_random_uuid()").await.unwrap();
    let lines = run(&database, &["doctor"]).await.out;
    assert!(lines.contains("ok    1 workers live") && lines.contains("warn  1 workers died"), "{lines}");

    // Right after a failover all are silent who live: it waits for their next heartbeat.
    db.execute(
        "DELETE FROM workers;
        INSERT INTO workers (id, name, heartbeat, lease, capacity)
        VALUES (gen_random_uuid(), 'cut off', now() - interval '20 seconds', '15 seconds', 1)",
    )
    .await
    .unwrap();
    let renews = async {
        let looking = "SELECT EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%AS patience%'
        )";
        eventually("doctor looks", async || {
            sqlx::query_scalar::<_, bool>(looking).fetch_one(&mut db).await.unwrap()
        })
        .await;
        db.execute("UPDATE workers SET heartbeat = now()").await.unwrap();
    };
    let (doctor, ()) = tokio::join!(run(&database, &["doctor"]), renews);
    assert!(doctor.out.contains("ok    1 workers live"), "{doctor:?}");
}

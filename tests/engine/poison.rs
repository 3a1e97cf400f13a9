//! Ends that the database takes too long for: they stand in nobody's way, and end with a reason.

use super::{Gate, act, ask, ended, push_all, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::Connection as _;

/// Makes PostgreSQL take longer for a row whose result says so than a statement may.
const SLOW: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.result::text = '\"poison\"' THEN
            PERFORM pg_sleep(60);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER slow BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION slow()";

/// An instance whose statements may take 3 s; what it runs waits at the gate and ends with its request.
async fn start(gate: &Gate) -> TestApp {
    let database = database().await.options([("statement_timeout", "3s")]);
    let held = gate.handler();
    let handler = move |message: Message| -> super::Handled {
        let request = serde_json::from_str(message.request.get()).unwrap();
        let held = held(message);
        Box::pin(async move { held.await.map(|_| request) })
    };
    TestApp::on(database, &[], |app| app.handler("work", handler)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_ends_the_one_that_takes_too_long_fails_alone() {
    let gate = Gate::shut();
    let app = start(&gate).await;
    act(&mut app.connect().await, SLOW).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 100, "max_attempts": 5 }))).await;
    app.post("/queues/q/pause", &json!(null)).await;
    let bodies: Vec<Value> = (0..64).map(|n| if n == 40 { json!("poison") } else { json!(n) }).collect();
    let ids = push_all(&app, "/queues/q/messages:batch", &bodies).await;
    app.post("/queues/q/resume", &json!(null)).await;
    gate.until_running(64).await;
    // They are one lease, and while they end nothing can be written: so they are one batch, or nearly.
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    let mut lock = holder.begin().await.unwrap();
    act(&mut lock, "LOCK TABLE outcomes IN SHARE MODE").await;
    gate.open_up();
    gate.until_running(0).await;
    lock.commit().await.unwrap();
    for (id, body) in ids.iter().zip(&bodies).filter(|(_, body)| **body != json!("poison")) {
        let message = ended(&app, "q", id).await;
        assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), body));
    }
    // Who comes later does not wait for it either.
    let late = app.push("q", &json!("late")).await;
    assert_eq!(ended(&app, "q", &late).await["result"], "late");
    let poison = ended(&app, "q", &ids[40]).await;
    assert_eq!(poison["error"]["name"], "UnstorableResult", "{poison}");
    assert!(poison["error"]["message"].as_str().unwrap().contains("statement timeout"), "{poison}");
    let history = app.whole_message("q", &ids[40]).await["history"].take();
    assert_eq!((history.as_array().unwrap().len(), &history[0]["ending"]), (1, &json!("refused")));
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.runs().values().copied().collect::<Vec<_>>(), [1; 65], "nothing ran twice for it");
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM leases").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_outlasts_every_time_limit_costs_no_end() {
    let gate = Gate::shut();
    let app = start(&gate).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    let bodies: Vec<Value> = (0..2).map(|n| json!(n)).collect();
    let ids = push_all(&app, "/queues/q/messages:batch", &bodies).await;
    gate.until_running(2).await;
    let (mut holder, mut db) = (app.connect().await, app.connect().await);
    let mut lock = holder.begin().await.unwrap();
    // For as long as it is held nothing at all can be written of them, neither an end nor another in its place.
    act(&mut lock, "LOCK TABLE outcomes IN SHARE MODE").await;
    let gone_before: i64 = ask(&mut db, CANCELLED).await;
    gate.open_up();
    gate.until_running(0).await;
    eventually("statements are cancelled again and again", async || {
        ask::<i64>(&mut db, CANCELLED).await >= gone_before + 8
    })
    .await;
    lock.commit().await.unwrap();
    for (id, body) in ids.iter().zip(&bodies) {
        let message = ended(&app, "q", id).await;
        assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), body));
    }
    app.server.run_until_idle().await.unwrap();
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM leases").await, 0);
    app.stop().await;
}

async fn echo(message: Message) -> Result<Value, Failure> {
    message.json()
}

/// Makes PostgreSQL refuse a row three times whose result names the error.
const REFUSING: &str = "
    CREATE SEQUENCE tries;
    CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.result IS NOT NULL AND nextval('tries') <= 3 THEN
            RAISE EXCEPTION 'refused' USING ERRCODE = NEW.result #>> '{}';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuses BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION refuses()";

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_database_says_of_an_end_itself_costs_the_end() {
    let app = TestApp::with(&[], |app| app.handler("work", echo)).await;
    app.define("q", work(json!({ "timeout": "10m" }))).await;
    let mut db = app.connect().await;
    act(&mut db, REFUSING).await;
    // A session's limit, a database that may not be written, a table or a right that is gone, a broken page.
    for passing in ["25P03", "25006", "28P01", "42P01", "42501", "XX001"] {
        act(&mut db, "SELECT setval('tries', 1, false)").await;
        let id = app.push("q", &json!(passing)).await;
        let message = ended(&app, "q", &id).await;
        assert_eq!(
            (&message["status"], &message["result"]),
            (&json!("COMPLETE"), &json!(passing)),
            "{message}"
        );
        assert!(ask::<i64>(&mut db, "SELECT last_value FROM tries").await > 3, "{passing} was raised");
    }
    act(&mut db, "SELECT setval('tries', 1, false)").await;
    let id = app.push("q", &json!("22023")).await;
    assert_eq!(ended(&app, "q", &id).await["error"]["name"], "UnstorableResult");
    app.stop().await;
}

/// Transactions that were undone, as PostgreSQL counts them.
const CANCELLED: &str = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";

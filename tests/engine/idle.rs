//! A server that has nothing to do, or no room to do it in, leaves the machine and the database alone.

use super::{Gate, act, ask, work};
use crate::faults::url_of;
use crate::support::app::{TestApp, database};
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::process::cpu_ticks;
use crate::support::serve::Serve;
use serde_json::json;
use sqlx::postgres::PgConnection;
use std::time::Instant;

/// Heartbeats come every second.
const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "3s");

/// Waits for the next heartbeats.
async fn heartbeats(db: &mut PgConnection, count: usize) {
    for _ in 0..count {
        let last: String = ask(db, "SELECT max(heartbeat)::text FROM workers").await;
        eventually("the heart beats", async || {
            ask::<String>(db, "SELECT max(heartbeat)::text FROM workers").await != last
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_writes_nothing_but_its_heartbeat() {
    let gate = Gate::open();
    let app = TestApp::with(&[LEASE], |app| app.handler("work", gate.handler())).await;
    app.define("q", work(json!({}))).await;
    app.handled("q", &json!("hello")).await;
    let mut db = app.connect().await;
    // Told of every statement that writes, whether or not it finds a row.
    let tell = "CREATE TABLE written (what text);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO written VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
        DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'postrider'::regnamespace
                AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN ('workers', 'written')
            LOOP EXECUTE format('CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON %I EXECUTE FUNCTION tell()', name);
            END LOOP; END $$";
    // The last look below the mark is over by then.
    heartbeats(&mut db, 2).await;
    act(&mut db, tell).await;
    heartbeats(&mut db, 3).await;
    let written: Vec<String> =
        sqlx::query_scalar("SELECT what FROM written").fetch_all(&mut db).await.unwrap();
    assert!(written.is_empty(), "{written:?}");
    app.handled("q", &json!("hello")).await;
    assert!(ask::<i64>(&mut db, "SELECT count(*) FROM written").await >= 5, "it is told of what is written");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_what_waits_rests() {
    let database = database().await;
    let endpoint = Endpoint::start(str::to_owned).await;
    endpoint.hold();
    let serve = Serve::on(&url_of(&database), &[LEASE]).await;
    let handler = json!({ "kind": "http", "url": endpoint.url });
    for queue in ["full", "paused"] {
        serve.define(queue, &json!({ "handler": handler, "options": { "timeout": "10m" } })).await;
        for number in 0..5 {
            serve.push(queue, &json!(number)).await;
        }
    }
    eventually("both are full", async || endpoint.held() == 2).await;
    let pause = serve.request(reqwest::Method::POST, "/queues/paused/pause").send().await.unwrap();
    assert_eq!(pause.status(), 200);
    let mut db = crate::faults::connect(&database).await;
    heartbeats(&mut db, 2).await;
    let (began, before) = (Instant::now(), cpu_ticks(serve.pid()));
    heartbeats(&mut db, 3).await;
    let used = f64::from(u32::try_from(cpu_ticks(serve.pid()) - before).unwrap()) / 100.0;
    let share = used / began.elapsed().as_secs_f64();
    assert!(share < 0.25, "a full server uses {share:.2} of a core");
    endpoint.release();
}

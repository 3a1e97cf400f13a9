//! The database is stopped and started again under load: 503, and then on by itself.

use super::{Load, connect, outcomes, posts_to, unfinished};
use crate::support::app::TestApp;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::server::BINARY;
use postrider::internals::db::embedded::{self, Options, Server, Stop};
use postrider::migrate;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

async fn own_server(settings: &[(&str, &str)]) -> Server {
    let data_dir = std::env::temp_dir().join(format!("postrider-test-{}", uuid::Uuid::now_v7().simple()));
    let mut options = Options::new(data_dir, BINARY);
    options.ephemeral = true;
    options.settings =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let server = embedded::start(options).await.unwrap();
    migrate(&server.connect_options(), "postrider").await.unwrap();
    server
}

async fn status(app: &TestApp, path: &str) -> u16 {
    app.get(path).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_and_comes_back_costs_nothing_that_was_acknowledged() {
    let server = own_server(&[]).await;
    let app = TestApp::on(server.connect_options(), &[("POSTRIDER_LEASE", "3s")], |app| {
        app.handler("work", |_| async { Ok(json!("done")) })
    })
    .await;
    let definition = json!({
        "handler": { "kind": "native", "name": "work" }, "options": { "concurrency": 20, "max_attempts": 10 }
    });
    app.define("q", definition).await;
    let sample = app.push("q", &json!("sample")).await;
    let load = Load::start(&app.request(Method::POST, "/queues/q/messages"));
    for how in [Stop::Immediate, Stop::Fast] {
        let before = load.acknowledged();
        eventually("pushes go on", async || load.acknowledged() > before + 200).await;
        eventually("it is ready", async || status(&app, "/readyz").await == 200).await;
        let refused = load.unavailable();
        server.stop(how).await.unwrap();
        eventually("requests are refused", async || load.unavailable() > refused + 8).await;
        eventually("it is not ready", async || status(&app, "/readyz").await == 503).await;
        assert_eq!(status(&app, "/healthz").await, 200);
        let read = app.get(&format!("/queues/q/messages/{sample}")).await;
        assert_eq!(read.status(), 503);
        assert!(read.headers().contains_key("retry-after"));
        server.start_again().await.unwrap();
    }
    let before = load.acknowledged();
    eventually("pushes go on", async || load.acknowledged() > before + 200).await;
    eventually("it is ready", async || status(&app, "/readyz").await == 200).await;
    let (acknowledged, longest) = load.stop().await;
    // A pool gives up after 1.5 s; the rest is for a machine that is busy.
    assert!(longest < Duration::from_secs(30), "a push took {longest:?}");
    let mut db = connect(&server.connect_options()).await;
    eventually("everything ends", async || unfinished(&mut db).await == 0).await;
    let ends = outcomes(&mut db).await;
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ends.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert!(ends.values().all(|(status, _)| status == "COMPLETE"));
    let message: Value = app.handled("q", &json!("after")).await;
    assert_eq!(message["result"], "done");
    drop(db);
    app.stop().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_runs_while_the_database_is_away_settles_when_it_is_back() {
    let server = own_server(&[]).await;
    let gate = crate::engine::Gate::shut();
    // Longer than the database is away.
    let lease = [("POSTRIDER_LEASE", "10m")];
    let app = TestApp::on(server.connect_options(), &lease, |app| app.handler("work", gate.handler())).await;
    app.define("q", crate::engine::work(json!({ "timeout": "10m" }))).await;
    let id = app.push("q", &json!("hello")).await;
    gate.until_running(1).await;
    server.stop(Stop::Fast).await.unwrap();
    gate.open_up();
    gate.until_running(0).await;
    eventually("it is not ready", async || status(&app, "/readyz").await == 503).await;
    server.start_again().await.unwrap();
    eventually("it is ready", async || status(&app, "/readyz").await == 200).await;
    eventually("it is complete", async || app.message("q", &id).await["status"] == "COMPLETE").await;
    assert_eq!(gate.begun().len(), 1, "it ran once");
    app.stop().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_what_may_start_later_outlives_a_crash_of_the_database() {
    // Nothing writes to the disk in time but who waits for it.
    let server = own_server(&[("wal_writer_delay", "10s")]).await;
    let endpoint = Endpoint::start(str::to_owned).await;
    let app = TestApp::on(server.connect_options(), &[("POSTRIDER_LEASE", "10m")], |app| app).await;
    app.define("q", posts_to(&endpoint.url)).await;
    endpoint.hold();
    let id = app.push("q", &json!("hello")).await;
    eventually("it is sent", async || endpoint.held() == 1).await;
    server.stop(Stop::Immediate).await.unwrap();
    server.start_again().await.unwrap();
    eventually("it is ready", async || status(&app, "/readyz").await == 200).await;
    let mut db = connect(&server.connect_options()).await;
    let held: (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM leases), (SELECT count(*) FROM dispatch)")
            .fetch_one(&mut db)
            .await
            .unwrap();
    assert_eq!(held, (1, 0), "somebody else can claim what this process sends");
    endpoint.release();
    eventually("it is complete", async || app.message("q", &id).await["status"] == "COMPLETE").await;
    assert_eq!(endpoint.runs()[&id], 1);
    drop(db);
    app.stop().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_crash_of_the_database_undid_cannot_settle_in_place_of_another() {
    // A claim's commit does not wait for the disk: with these, nothing else writes it there in time.
    let server = own_server(&[("wal_writer_delay", "10s")]).await;
    let gate = crate::engine::Gate::shut();
    let lease = [("POSTRIDER_LEASE", "10m")];
    let app = TestApp::on(server.connect_options(), &lease, |app| app.handler("work", gate.handler())).await;
    for queue in ["one", "two"] {
        app.define(queue, crate::engine::work(json!({ "timeout": "10m" }))).await;
    }
    let first = app.push("one", &json!("claimed before the crash")).await;
    gate.until_running(1).await;
    server.stop(Stop::Immediate).await.unwrap();
    server.start_again().await.unwrap();
    eventually("it is ready", async || status(&app, "/readyz").await == 200).await;
    assert_eq!(app.message("one", &first).await["status"], "PENDING", "the claim is undone");
    let second = app.push("two", &json!("claimed after it")).await;
    gate.until_running(2).await;
    // The first attempt of the first message comes to its end: it is nobody's.
    gate.let_through(1);
    eventually("the first message is begun again", async || gate.begun().len() == 3).await;
    assert_eq!(app.message("one", &first).await["status"], "INPROGRESS");
    gate.open_up();
    for (queue, id) in [("one", first), ("two", second)] {
        eventually("it is complete", async || app.message(queue, &id).await["status"] == "COMPLETE").await;
    }
    app.server.run_until_idle().await.unwrap();
    assert_eq!(gate.begun().len(), 3);
    app.stop().await;
    server.shutdown().await;
}

//! The database is stopped and started again under load: 503, and then on by itself.

use super::{Load, connect, outcomes, posts_to, unfinished};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use crate::support::serve::Serve;
use crate::support::server::BINARY;
use crate::support::tls::{Tls, key_file};
use postrider::internals::db::embedded::{self, Options, Server, Stop};
use postrider::migrate;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;
use std::time::{Duration, Instant};

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
async fn what_waits_for_its_connection_while_a_crash_undoes_its_claim_is_sent_by_the_next_claim_alone() {
    // Nothing writes to the disk in time but who waits for it.
    let server = own_server(&[("wal_writer_delay", "10s")]).await;
    let database = server.connect_options();
    let endpoint = Scripted::start(|_: &Asked| Reply::Says(200, Vec::new(), "{}".to_owned())).await;
    let tls = Tls::before(&endpoint.url, "tls-valid").await;
    let ca = key_file("tls-ca.pem");
    let settings = [("POSTRIDER_LEASE", "10m"), ("SSL_CERT_FILE", ca.to_str().unwrap())];
    let serve = Serve::on(&super::url_of(&database), &settings).await;
    serve.define("q", &posts_to(&tls.url)).await;
    let (id, lock) = loop {
        let held = tls.held();
        tls.holds(true);
        let mut holder = connect(&database).await;
        let pushed = Instant::now();
        let id = serve.push("q", &json!("hello")).await;
        eventually("it shakes hands", async || tls.held() > held).await;
        // From here on nobody can have a claim confirmed.
        holder.execute("BEGIN; LOCK TABLE leases IN EXCLUSIVE MODE").await.unwrap();
        if pushed.elapsed() < Duration::from_millis(200) {
            break (id, holder);
        }
        // It may have been confirmed before.
        drop(holder);
        tls.holds(false);
        tls.release();
        serve.complete("q", &id).await;
    };
    let held = tls.held();
    server.stop(Stop::Immediate).await.unwrap();
    drop(lock);
    server.start_again().await.unwrap();
    eventually("it is claimed again", async || tls.held() > held).await;
    tls.release();
    serve.complete("q", &id).await;
    eventually("the first attempt is stopped", async || {
        serve.log().iter().any(|line| line.contains("does not know a claim"))
    })
    .await;
    let sent = endpoint.asked().iter().filter(|asked| asked.header("webhook-id") == Some(&id)).count();
    assert_eq!(sent, 1);
    serve.kill().await;
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

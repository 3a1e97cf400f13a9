//! `kill -9` of a server under load: every acknowledged message ends, and none runs again after its end.

use super::{Load, connect, new_database, outcomes, posts_to, unfinished, url_of};
use crate::support::app::SECRET;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use crate::support::serve::Serve;
use crate::support::server::BINARY;
use postrider::internals::db::embedded::{self, Options};
use reqwest::Method;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

const LEASE: (&str, &str) = ("POSTRIDER_LEASE", "2s");

/// Puts a server under load until messages run that cannot end, and kills it; returns what was acknowledged.
async fn killed_under_load(serve: Serve, endpoint: &Endpoint) -> Vec<String> {
    serve.define("q", &posts_to(&endpoint.url)).await;
    let load = Load::start(&serve.request(Method::POST, "/queues/q/messages"));
    eventually("many were pushed and run", async || load.acknowledged() > 500 && endpoint.runs().len() > 200)
        .await;
    endpoint.hold();
    eventually("some are in the middle", async || endpoint.held() == 20).await;
    serve.kill().await;
    let (acknowledged, _) = load.stop().await;
    endpoint.release();
    eventually("their connections are gone", async || endpoint.held() == 0).await;
    acknowledged
}

/// Lets `serve` finish what the killed one left, and checks it all.
async fn finish(
    serve: &Serve,
    db: &mut PgConnection,
    endpoint: &Endpoint,
    acknowledged: &[String],
    ended: &HashMap<String, (String, i16)>,
    runs_before: &HashMap<String, usize>,
) {
    eventually("everything ends", async || unfinished(db).await == 0).await;
    let now = outcomes(db).await;
    let lost: Vec<_> = acknowledged.iter().filter(|id| !now.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert!(now.values().all(|(status, _)| status == "COMPLETE"));
    let runs = endpoint.runs();
    for (id, end) in ended {
        assert_eq!(now[id], *end, "an end does not change");
        assert_eq!(runs[id], runs_before[id], "{id} ran again after its end");
    }
    assert!(now.values().any(|(_, attempt)| *attempt == 2), "what was in the middle was taken back");
    assert!(serve.is_ready().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_finishes_what_a_killed_one_has_accepted() {
    let database = new_database().await;
    let url = url_of(&database);
    let endpoint = Endpoint::start(str::to_owned).await;
    let acknowledged = killed_under_load(Serve::on(&url, &[LEASE]).await, &endpoint).await;
    let mut db = connect(&database).await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'postrider %' \
                       AND datname = current_database()";
    eventually("nothing of it goes on", async || {
        sqlx::query_scalar::<_, i64>(connections).fetch_one(&mut db).await.unwrap() == 0
    })
    .await;
    let (ended, runs) = (outcomes(&mut db).await, endpoint.runs());
    assert!(!ended.is_empty() && unfinished(&mut db).await >= 20);
    let serve = Serve::on(&url, &[LEASE]).await;
    finish(&serve, &mut db, &endpoint, &acknowledged, &ended, &runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_with_its_database_finishes_at_the_next_start() {
    let directory = tempfile::Builder::new()
        .prefix("postrider-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let settings = [
        LEASE,
        ("POSTRIDER_JWT_SECRET", SECRET),
        ("POSTRIDER_ALLOW_NETWORKS", "127.0.0.0/8"),
        ("POSTRIDER_DATA_DIR", "data"),
    ];
    let endpoint = Endpoint::start(str::to_owned).await;
    let acknowledged = killed_under_load(Serve::start(directory.path(), &settings).await, &endpoint).await;
    // Between the two, what has ended: nobody can run anything.
    let data_dir = directory.path().join("data");
    let between = embedded::start(Options::new(&data_dir, BINARY)).await.unwrap();
    let mut db = connect(&between.connect_options()).await;
    let (ended, runs) = (outcomes(&mut db).await, endpoint.runs());
    assert!(!ended.is_empty() && unfinished(&mut db).await >= 20);
    drop(db);
    between.shutdown().await;
    let mut serve = Serve::start(directory.path(), &settings).await;
    let mut db = connect(&embedded::running(&data_dir).unwrap()).await;
    finish(&serve, &mut db, &endpoint, &acknowledged, &ended, &runs).await;
    drop(db);
    serve.signal(rustix::process::Signal::TERM);
    assert!(serve.end().await.success());
}

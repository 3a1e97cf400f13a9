//! What of others holds the database up shows within ninety seconds, wherever somebody looks.

use super::{Done, command, finish};
use crate::support::eventually;
use crate::support::serve::Serve;
use crate::support::server::BINARY;
use axum::http::Method;
use postrider::internals::db::embedded::{self, Options, Server};
use serde_json::Value;
use sqlx::{ConnectOptions as _, Executor as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// A server of its own, since slots are its and not a database's.
async fn server() -> (tempfile::TempDir, Server) {
    let everybody = std::fs::Permissions::from_mode(0o755);
    let directory = tempfile::Builder::new().permissions(everybody).tempdir().unwrap();
    let mut options = Options::new(directory.path().join("data"), BINARY);
    options.ephemeral = true;
    options.settings =
        vec![("wal_level".into(), "logical".into()), ("max_prepared_transactions".into(), "4".into())];
    let server = embedded::start(options).await.unwrap();
    (directory, server)
}

async fn doctor(server: &Server) -> Done {
    let mut doctor = command(&server.connect_options(), &["doctor"]).await;
    doctor.env("DATABASE_URL", server.url());
    finish(doctor, "").await
}

/// The value of a gauge, once it was measured.
async fn gauge(serve: &Serve, name: &str) -> Option<f64> {
    let text = serve.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn health(serve: &Serve) -> Value {
    let report = serve.request(Method::GET, "/reports/table_health").send().await.unwrap();
    report.json::<Value>().await.unwrap()[0].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_slots_an_idle_transaction_and_a_prepared_one_show_within_ninety_seconds() {
    let (_directory, server) = server().await;
    let serve = Serve::on(&server.url(), &[]).await;
    let sound = doctor(&server).await;
    assert!(sound.ok, "{sound:?}");
    for line in ["no transaction is old", "no prepared transaction is old", "no replication slot is stale"] {
        assert!(sound.out.contains(&format!("ok    {line}")), "{line}\n{sound:?}");
    }
    let connect = async || server.connect_options().connect().await.unwrap();
    let (mut idle, mut other) = (connect().await, connect().await);
    other.execute("SELECT pg_create_physical_replication_slot('standby', true)").await.unwrap();
    other.execute("SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')").await.unwrap();
    let began = Instant::now();
    other.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'forgotten'").await.unwrap();
    idle.execute("BEGIN; SELECT txid_current()").await.unwrap();
    let bound = Duration::from_secs(90);
    let mut sick = doctor(&server).await;
    let fails = |sick: &Done| {
        ["and does nothing (process", "the prepared transaction forgotten", "standby, subscriber"]
            .iter()
            .all(|words| sick.out.lines().any(|line| line.starts_with("FAIL  ") && line.contains(words)))
    };
    while !fails(&sick) {
        assert!(began.elapsed() < bound, "{sick:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        sick = doctor(&server).await;
    }
    assert!(!sick.ok, "{sick:?}");
    let row = health(&serve).await;
    assert_eq!(row["stale_slots"], 2, "{row}");
    assert!(row["stale_slot_bytes"].is_i64(), "{row}");
    for column in ["oldest_transaction_seconds", "oldest_prepared_seconds"] {
        assert!(row[column].as_f64().unwrap() > 50.0, "{column}: {row}");
    }
    assert_eq!(gauge(&serve, "postrider_stale_replication_slots").await, Some(2.0));
    assert!(gauge(&serve, "postrider_stale_replication_slot_bytes").await.is_some());
    for name in ["postrider_oldest_transaction_seconds", "postrider_oldest_prepared_transaction_seconds"] {
        assert!(gauge(&serve, name).await.unwrap() > 50.0, "{name}");
    }

    // What it advises.
    for words in ["pg_terminate_backend", "ROLLBACK PREPARED", "pg_drop_replication_slot"] {
        assert!(sick.out.contains(words), "{words}\n{sick:?}");
    }
    let pid = sick.out.split("(process ").nth(1).unwrap().split(')').next().unwrap().to_owned();
    sqlx::query("SELECT pg_terminate_backend($1::text::int)").bind(pid).execute(&mut other).await.unwrap();
    other.execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
    for slot in ["standby", "subscriber"] {
        sqlx::query("SELECT pg_drop_replication_slot($1)").bind(slot).execute(&mut other).await.unwrap();
    }
    eventually("it is sound again", async || doctor(&server).await.ok).await;
    drop(serve);
    server.shutdown().await;
}

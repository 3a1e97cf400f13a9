//! The embedded PostgreSQL server: where its data is, who may reach it, and that it starts and stops.

mod killed;

use crate::support::process::{is_alive, status};
use crate::support::server::{BINARY, server};
use postrider::internals::db::embedded::{self, Options, Server, Stop};
use rustix::process::{Pid, geteuid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory that is there for everybody, or for us alone.
fn directory(mode: u32) -> TempDir {
    tempfile::Builder::new()
        .prefix("postrider-")
        .permissions(PermissionsExt::from_mode(mode))
        .tempdir()
        .unwrap()
}

async fn start(data_dir: &Path) -> Server {
    embedded::start(Options::new(data_dir, BINARY)).await.unwrap()
}

/// Writes a row that is acknowledged, so that it may never be lost.
async fn write(options: &PgConnectOptions) {
    let mut connection = options.connect().await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 42 AS answer").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn read(options: &PgConnectOptions) -> i32 {
    let mut connection = options.connect().await.unwrap();
    let answer = ask(&mut connection, "SELECT answer FROM kept").await;
    connection.close().await.unwrap();
    answer
}

async fn ask<T>(connection: &mut PgConnection, question: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(question).fetch_one(connection).await.unwrap()
}

fn cluster(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres/cluster").canonicalize().unwrap()
}

fn postmaster(data_dir: &Path) -> Pid {
    let file = fs::read_to_string(cluster(data_dir).join("postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_second_start_finds_the_data_of_the_first() {
    let data_dir = directory(0o755);
    let first = start(data_dir.path()).await;
    write(&first.connect_options()).await;
    let pid = postmaster(data_dir.path());
    first.shutdown().await;
    assert!(!is_alive(pid), "shutdown waits until the server has ended");
    let second = start(data_dir.path()).await;
    assert_eq!(read(&second.connect_options()).await, 42);
    second.shutdown().await;
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_in_one_line() {
    let data_dir = directory(0o755);
    let first = start(data_dir.path()).await;
    let refusal = embedded::start(Options::new(data_dir.path(), BINARY)).await.unwrap_err();
    let refusal = format!("{refusal:#}");
    assert!(
        refusal.contains("in use by another Postrider") && refusal.contains("POSTRIDER_DATA_DIR"),
        "{refusal}"
    );
    assert!(!refusal.contains('\n'), "{refusal}");
    write(&first.connect_options()).await;
    first.shutdown().await;
}

#[tokio::test]
async fn as_root_the_server_runs_as_somebody_else_and_reaches_a_private_directory() {
    let private = directory(0o700);
    let data_dir = private.path().join("data");
    let first = start(&data_dir).await;
    let home = data_dir.join("postgres").canonicalize().unwrap();
    let uids = status(postmaster(&data_dir), "Uid:").unwrap();
    if geteuid().is_root() {
        assert!(uids.split_whitespace().all(|uid| uid != "0"), "{uids}");
        assert_eq!(status(postmaster(&data_dir), "Groups:").unwrap(), "", "root's groups are dropped");
        assert!(home.starts_with("/var/lib/postrider"), "{}", home.display());
        assert_eq!(fs::metadata(&home).unwrap().uid(), 0, "the server's user cannot plant links there");
    } else {
        assert!(home.starts_with(private.path().canonicalize().unwrap()));
    }
    write(&first.connect_options()).await;
    first.shutdown().await;

    let second = start(&data_dir).await;
    assert_eq!(read(&second.connect_options()).await, 42);
    second.shutdown().await;

    // Who deletes the data directory has deleted the data.
    fs::remove_dir_all(&data_dir).unwrap();
    let third = start(&data_dir).await;
    write(&third.connect_options()).await;
    let new_home = data_dir.join("postgres").canonicalize().unwrap();
    third.shutdown().await;
    for home in [home, new_home] {
        let _ = fs::remove_dir_all(home);
    }
}

#[tokio::test]
async fn an_ephemeral_server_takes_no_directory_that_is_there_already() {
    let data_dir = directory(0o755);
    fs::write(data_dir.path().join("precious"), "").unwrap();
    let mut options = Options::new(data_dir.path(), BINARY);
    options.ephemeral = true;
    assert!(embedded::start(options).await.is_err());
    assert!(data_dir.path().join("precious").exists());
}

#[tokio::test]
async fn an_ephemeral_server_elsewhere_leaves_nothing_there() {
    let private = directory(0o700);
    let mut options = Options::new(private.path().join("data"), BINARY);
    options.ephemeral = true;
    let server = embedded::start(options.clone()).await.unwrap();
    let home = options.data_dir.join("postgres").canonicalize().unwrap();
    assert!(home.exists());
    server.shutdown().await;
    assert!(!home.exists() && !options.data_dir.exists());
}

#[tokio::test]
async fn a_deep_data_directory_has_a_socket_that_can_be_reached() {
    let parent_dir = directory(0o755);
    let data_dir = parent_dir.path().join("d".repeat(120));
    let server = start(&data_dir).await;
    write(&server.connect_options()).await;
    let socket = fs::read_to_string(cluster(&data_dir).join("postmaster.pid")).unwrap();
    let socket = PathBuf::from(socket.lines().nth(4).unwrap());
    assert!(socket.starts_with("/tmp") && socket.exists());
    server.shutdown().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_server_is_in_nobody_elses_reach_and_knows_no_secret_of_ours() {
    let data_dir = directory(0o755);
    let server = start(data_dir.path()).await;
    let pid_file = fs::read_to_string(cluster(data_dir.path()).join("postmaster.pid")).unwrap();
    assert_eq!(pid_file.lines().nth(5), Some(""), "the first address it listens on");
    let run = fs::metadata(data_dir.path().join("postgres/run")).unwrap();
    assert_eq!(run.mode() & 0o777, 0o700);
    let mut connection = server.connect_options().connect().await.unwrap();
    sqlx::raw_sql("CREATE TEMP TABLE environment (line text); COPY environment FROM PROGRAM 'env'")
        .execute(&mut connection)
        .await
        .unwrap();
    let ours = "SELECT count(*) FROM environment WHERE line LIKE 'CARGO_MANIFEST_DIR=%'";
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(ask::<i64>(&mut connection, ours).await, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn an_acknowledged_commit_is_on_disk() {
    let mut connection = server().await.connect_options("postrider").connect().await.unwrap();
    for setting in ["SHOW fsync", "SHOW synchronous_commit", "SHOW full_page_writes", "SHOW data_checksums"] {
        assert_eq!(ask::<String>(&mut connection, setting).await, "on", "{setting}");
    }
    assert_eq!(ask::<String>(&mut connection, "SHOW server_encoding").await, "UTF8");
    assert_eq!(
        ask::<String>(&mut connection, "SHOW checkpoint_timeout").await,
        "15min",
        "our settings are read"
    );
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_starts_again_on_the_same_socket() {
    let data_dir = directory(0o755);
    let server = start(data_dir.path()).await;
    let options = server.connect_options();
    write(&options).await;
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).await.unwrap();
        assert!(options.connect().await.is_err());
        server.start_again().await.unwrap();
        assert_eq!(read(&options).await, 42);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_with_its_log() {
    let data_dir = directory(0o755);
    let mut options = Options::new(data_dir.path(), BINARY);
    options.settings = vec![("shared_buffers".to_owned(), "plenty".to_owned())];
    let refusal = format!("{:#}", embedded::start(options).await.unwrap_err());
    assert!(refusal.contains("shared_buffers") && refusal.contains("plenty"), "{refusal}");
}

#[tokio::test]
async fn the_tests_server_copies_databases() {
    let server = server().await;
    server.create_database("copied_from", "template1").await;
    write(&server.connect_options("copied_from")).await;
    server.create_database("copied_to", "copied_from").await;
    assert_eq!(read(&server.connect_options("copied_to")).await, 42);
    let mut connection = PgConnection::connect(&server.admin_url()).await.unwrap();
    server.drop_database("copied_to").await;
    let left: i64 =
        ask(&mut connection, "SELECT count(*) FROM pg_database WHERE datname = 'copied_to'").await;
    assert_eq!(left, 0);
}

//! The embedded PostgreSQL server: it starts whatever was left behind, and it ends with its process.

use crate::support::eventually;
use crate::support::server::{BINARY, server};
use postrider::db::embedded::{self, Options, Server, Stop};
use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// Whether the process is there and has not ended (a zombie has).
fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && status(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

/// A line of the process's state, as proc(5) has it.
fn status(pid: Pid, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

fn parent(pid: Pid) -> Pid {
    Pid::from_raw(status(pid, "PPid:").unwrap().parse().unwrap()).unwrap()
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

/// Another process that runs a server, to be killed. It ends with this one: its standard input does.
struct Holder(Child);

impl Holder {
    /// Starts the process and does not wait for its server.
    fn begin(data_dir: &Path, lifetime: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::hold_a_server", "--exact", "--ignored", "--nocapture"])
            .env("POSTRIDER_TEST_HOLD", data_dir)
            .env("POSTRIDER_TEST_LIFETIME", lifetime)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Starts the process and waits until its server accepts connections.
    fn start(data_dir: &Path, lifetime: &str) -> Self {
        let mut holder = Self::begin(data_dir, lifetime);
        let output = BufReader::new(holder.0.stdout.as_mut().unwrap());
        assert!(
            output.lines().map_while(Result::ok).any(|line| line == "ready"),
            "the server does not start"
        );
        holder
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Not a test: what [`Holder`] runs.
#[tokio::test]
#[ignore = "the other tests run it as a process of its own"]
async fn hold_a_server() {
    let Some(data_dir) = std::env::var_os("POSTRIDER_TEST_HOLD") else { return };
    let mut options = Options::new(data_dir, BINARY);
    options.ephemeral =
        std::env::var_os("POSTRIDER_TEST_LIFETIME").is_some_and(|lifetime| lifetime == "ephemeral");
    let _server = embedded::start(options).await.unwrap();
    writeln!(std::io::stdout(), "\nready").unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
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
async fn a_killed_process_takes_its_server_along_and_the_next_start_works() {
    let data_dir = directory(0o755);
    let holder = Holder::start(data_dir.path(), "durable");
    let (server, guard) = (postmaster(data_dir.path()), parent(postmaster(data_dir.path())));
    assert_eq!(parent(guard), holder.pid());
    write(&embedded::running(data_dir.path()).unwrap()).await;
    holder.kill();
    eventually("the server ends", async || !is_alive(server)).await;
    eventually("the guard ends", async || !is_alive(guard)).await;
    let again = start(data_dir.path()).await;
    assert_eq!(read(&again.connect_options()).await, 42);
    again.shutdown().await;
}

#[tokio::test]
async fn a_start_right_after_a_kill_waits_for_the_old_guard() {
    let data_dir = directory(0o755);
    let holder = Holder::start(data_dir.path(), "durable");
    write(&embedded::running(data_dir.path()).unwrap()).await;
    holder.kill();
    let again = start(data_dir.path()).await;
    assert_eq!(read(&again.connect_options()).await, 42);
    again.shutdown().await;
}

#[tokio::test]
async fn a_server_that_has_lost_process_and_guard_is_replaced() {
    let data_dir = directory(0o755);
    let holder = Holder::start(data_dir.path(), "durable");
    let old = postmaster(data_dir.path());
    write(&embedded::running(data_dir.path()).unwrap()).await;
    kill(parent(old));
    holder.kill();
    assert!(is_alive(old), "nobody is left to stop it");
    let again = start(data_dir.path()).await;
    assert!(!is_alive(old));
    assert_eq!(read(&again.connect_options()).await, 42);
    again.shutdown().await;
}

#[tokio::test]
async fn a_start_after_everything_was_killed_recovers_the_data() {
    let data_dir = directory(0o755);
    let holder = Holder::start(data_dir.path(), "durable");
    let old = postmaster(data_dir.path());
    write(&embedded::running(data_dir.path()).unwrap()).await;
    kill(parent(old));
    kill(old);
    holder.kill();
    assert!(cluster(data_dir.path()).join("postmaster.pid").exists());
    let again = start(data_dir.path()).await;
    assert_eq!(read(&again.connect_options()).await, 42);
    again.shutdown().await;
}

#[tokio::test]
async fn lock_files_that_name_another_process_of_today_do_not_block_the_start() {
    let data_dir = directory(0o755);
    start(data_dir.path()).await.shutdown().await;
    let stale =
        format!("{}\n{}\n1\n5432\n\n\n1 1\nready\n", std::process::id(), cluster(data_dir.path()).display());
    fs::write(cluster(data_dir.path()).join("postmaster.pid"), &stale).unwrap();
    fs::write(data_dir.path().join("postgres/run/.s.PGSQL.5432.lock"), &stale).unwrap();
    start(data_dir.path()).await.shutdown().await;
}

#[tokio::test]
async fn a_cluster_whose_making_was_killed_is_made_anew() {
    let data_dir = directory(0o755);
    let home = data_dir.path().join("postgres");
    let holder = Holder::begin(data_dir.path(), "durable");
    let unfinished = || {
        let entries = fs::read_dir(&home).into_iter().flatten();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("cluster-"))
            .count()
    };
    eventually("initdb begins", async || unfinished() == 1).await;
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let children = processes.filter_map(Pid::from_raw).filter(|pid| {
        status(*pid, "PPid:").is_some_and(|parent| parent == holder.pid().as_raw_nonzero().to_string())
    });
    let guards: Vec<Pid> = children.collect();
    assert_eq!(guards.len(), 1);
    kill(guards[0]);
    holder.kill();
    assert!(!home.join("cluster").exists());
    let again = start(data_dir.path()).await;
    write(&again.connect_options()).await;
    again.shutdown().await;
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
async fn an_ephemeral_server_leaves_nothing_even_when_its_process_is_killed() {
    let parent_dir = directory(0o755);
    let data_dir = parent_dir.path().join("data");
    let holder = Holder::start(&data_dir, "ephemeral");
    let server = postmaster(&data_dir);
    let guard = parent(server);
    holder.kill();
    eventually("server and guard end", async || !is_alive(server) && !is_alive(guard)).await;
    assert!(!data_dir.exists());
}

#[tokio::test]
async fn a_process_killed_while_the_cluster_is_made_leaves_nothing() {
    let parent_dir = directory(0o755);
    let data_dir = parent_dir.path().join("data");
    let holder = Holder::begin(&data_dir, "ephemeral");
    eventually("the home is made", async || data_dir.join("postgres/lock").exists()).await;
    holder.kill();
    eventually("all of it is removed", async || !data_dir.exists()).await;
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
async fn a_server_that_crashes_comes_back_by_itself() {
    let data_dir = directory(0o755);
    let server = start(data_dir.path()).await;
    let options = server.connect_options();
    write(&options).await;
    kill(postmaster(data_dir.path()));
    eventually("it answers again", async || options.connect().await.is_ok()).await;
    assert_eq!(read(&options).await, 42);
    server.shutdown().await;
}

#[tokio::test]
async fn signals_to_the_guard_do_not_take_the_server_from_its_process() {
    let data_dir = directory(0o755);
    let server = start(data_dir.path()).await;
    let pid = postmaster(data_dir.path());
    let guard = parent(pid);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(guard, signal).unwrap();
    }
    write(&server.connect_options()).await;
    assert!(is_alive(guard) && is_alive(pid));
    server.shutdown().await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn shutdown_stops_a_server_that_has_lost_its_guard() {
    let data_dir = directory(0o755);
    let server = start(data_dir.path()).await;
    let pid = postmaster(data_dir.path());
    kill(parent(pid));
    server.shutdown().await;
    assert!(!is_alive(pid));
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

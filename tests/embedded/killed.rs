//! What is left when processes are killed: never a server that blocks the next start, and always the data.

use super::{cluster, directory, postmaster, read, start, write};
use crate::support::eventually;
use crate::support::process::{is_alive, kill, parent, status};
use crate::support::server::BINARY;
use postrider::internals::db::embedded::{self, Options};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::ConnectOptions;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Another process that runs a server, to be killed. It ends with this one: its standard input does.
struct Holder(Child);

impl Holder {
    /// Starts the process and does not wait for its server.
    fn begin(data_dir: &Path, lifetime: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::killed::hold_a_server", "--exact", "--ignored", "--nocapture"])
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

//! Which processes of PostgreSQL work in a cluster, and how they are made to end.

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a fast shutdown may take: it writes a checkpoint of at most `max_wal_size`.
const FAST: Duration = Duration::from_secs(30);
/// How long an immediate shutdown may take: the postmaster itself gives its children 5 s.
const IMMEDIATE: Duration = Duration::from_secs(7);
/// How long it may take until all processes can be told apart: those that end are unclear for a moment.
const CERTAINTY: Duration = Duration::from_secs(1);
/// How often something is looked at that tells nobody when it changes.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// The name of the file by which PostgreSQL locks its socket, next to it.
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// In order: transactions are rolled back, everything is written, the next start has nothing to replay.
    Fast,
    /// As in a crash: the next start replays the log.
    Immediate,
}

/// What a running postmaster writes into `postmaster.pid`, line by line (see `miscadmin.h`).
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) socket: PathBuf,
    pub(super) accepts_connections: bool,
}

impl PidFile {
    /// The file of `cluster`; none when no server runs, or it has only begun to write it.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: Pid::from_raw(lines.first()?.parse().ok()?)?,
            socket: PathBuf::from(lines.get(4).copied().unwrap_or_default()),
            accepts_connections: lines.get(7).copied() == Some("ready"),
        })
    }
}

/// Ends a postmaster: asks as `how` says, then more and more firmly, until `gone` completes.
pub(super) async fn stop(postmaster: Pid, how: Stop, gone: impl Future<Output = ()>) {
    let mut gone = pin!(gone);
    let steps = [(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)];
    let first = match how {
        Stop::Fast => 0,
        Stop::Immediate => 1,
    };
    // Where it has ended already, its number may be another process's.
    if timeout(Duration::ZERO, &mut gone).await.is_ok() {
        return;
    }
    for (signal, patience) in &steps[first..] {
        let _ = kill_process(postmaster, *signal);
        if timeout(*patience, &mut gone).await.is_ok() {
            return;
        }
    }
    let _ = kill_process(postmaster, Signal::KILL);
    gone.await;
}

/// Ends what an earlier guard left behind in `cluster` when it was killed, and removes its lock files.
///
/// The caller holds the lock of the cluster's home, so nobody else is responsible for these processes.
pub(super) async fn clear(cluster: &Path, socket: &Path) {
    let locks = [cluster.join("postmaster.pid"), socket.join(SOCKET_LOCK)];
    if !locks.iter().any(|lock| lock.exists()) {
        return;
    }
    let postmaster = PidFile::read(cluster).map(|file| file.pid);
    if let Some(pid) = postmaster.filter(|pid| Census::take(cluster).ours.contains(pid)) {
        stop(pid, Stop::Fast, until(|| !Census::take(cluster).ours.contains(&pid))).await;
    }
    // Backends end by themselves when their postmaster has gone; one that hangs must not write any more.
    let ended = || until(|| Census::take(cluster).ours.is_empty());
    if timeout(IMMEDIATE, ended()).await.is_err() {
        for pid in Census::take(cluster).ours {
            let _ = kill_process(pid, Signal::KILL);
        }
        ended().await;
    }
    // Another program may have the number by now (after a reboot it is likely to), or a zombie that nobody
    // waits for still has it (in a container), and PostgreSQL would not start. Where the cluster is surely
    // nobody's, the lock files are history; otherwise PostgreSQL judges them itself.
    let patience = if cfg!(target_os = "linux") { CERTAINTY } else { Duration::ZERO };
    if timeout(patience, until(|| Census::take(cluster).complete)).await.is_ok() {
        for lock in locks {
            let _ = std::fs::remove_file(lock);
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(POLL).await;
    }
}

/// Which processes of PostgreSQL work in a cluster.
struct Census {
    ours: Vec<Pid>,
    /// Whether there can be no others.
    complete: bool,
}

#[cfg(target_os = "linux")]
impl Census {
    /// Asks /proc who works in `cluster`, a canonical path.
    fn take(cluster: &Path) -> Self {
        let mut census = Self { ours: Vec::new(), complete: true };
        let Ok(processes) = std::fs::read_dir("/proc") else { return Self { complete: false, ..census } };
        let names = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let pids: Vec<Pid> = names.filter_map(Pid::from_raw).collect();
        census.complete = !pids.is_empty();
        for pid in pids {
            match Self::works_in(cluster, pid) {
                Some(true) => census.ours.push(pid),
                Some(false) => {}
                None => census.complete = false,
            }
        }
        census
    }

    /// Whether `pid` is a process of PostgreSQL with the working directory `cluster`; none if we may not know.
    fn works_in(cluster: &Path, pid: Pid) -> Option<bool> {
        let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        // `4711 (postgres) S 42 …`: its state, where Z is a zombie that works no more, and its parent.
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        let Some((_, state)) = stat.split_once(" (postgres) ") else { return Some(false) };
        if state.starts_with(['Z', 'X']) {
            return Some(false);
        }
        match std::fs::read_link(process.join("cwd")) {
            Ok(directory) => Some(directory == cluster),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(false),
            // A container's root has no right to see where another user's process works (`CAP_SYS_PTRACE`).
            // But everybody sees command lines: a postmaster's names its cluster, its children's do not.
            Err(_) => {
                let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
                if !line.starts_with(b"postgres: ") {
                    return Some(
                        line.split(|byte| *byte == 0)
                            .any(|word| word == cluster.as_os_str().as_encoded_bytes()),
                    );
                }
                let parent = state.split(' ').nth(1)?.parse().ok().and_then(Pid::from_raw)?;
                let has_postmaster =
                    std::fs::read_to_string(format!("/proc/{}/comm", parent.as_raw_nonzero()))
                        .is_ok_and(|name| name.trim_end() == "postgres");
                if has_postmaster { Self::works_in(cluster, parent) } else { None }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Census {
    /// Asks `ps` whether the postmaster of `cluster` is alive; its children are not to be told from others'.
    fn take(cluster: &Path) -> Self {
        let ours = |pid: &Pid| {
            let pid = pid.as_raw_nonzero().to_string();
            let output = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid]).output();
            output.is_ok_and(|output| {
                let command = String::from_utf8_lossy(&output.stdout);
                command.contains("postgres") && command.contains(&cluster.display().to_string())
            })
        };
        let ours = PidFile::read(cluster).map(|file| file.pid).filter(ours);
        Self { ours: ours.into_iter().collect(), complete: false }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_says_who_runs_where_and_whether_it_accepts_connections() {
        let starting =
            "4711\n/data/postgres/cluster\n1763683200\n5432\n/data/postgres/run\n\n 12345 6\nstarting\n";
        let file = PidFile::parse(starting).unwrap();
        assert_eq!(file.pid.as_raw_nonzero().get(), 4711);
        assert_eq!(file.socket, PathBuf::from("/data/postgres/run"));
        assert!(!file.accepts_connections);
        assert!(PidFile::parse(&starting.replace("starting", "ready   ")).unwrap().accepts_connections);
    }

    #[test]
    fn a_pid_file_that_is_being_written_is_no_server() {
        assert!(PidFile::parse("").is_none());
        assert!(!PidFile::parse("4711\n/data").unwrap().accepts_connections);
    }
}

//! Which processes of PostgreSQL work in a cluster, and how they are made to end.

use super::Stop;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a fast shutdown may take: it writes a checkpoint of at most `max_wal_size`.
const FAST: Duration = Duration::from_secs(30);
/// How long an immediate shutdown may take: the postmaster itself gives its children 5 s.
const IMMEDIATE: Duration = Duration::from_secs(7);
/// How often something is looked at that tells nobody when it changes.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// The name of the file by which PostgreSQL locks its socket, next to it.
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";

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

/// Ends what an earlier guard left behind in `cluster` when it was killed, and its lock files.
///
/// The caller holds the lock of the cluster's home, so nobody else is responsible for these processes.
pub(super) async fn clear(cluster: &Path, socket: &Path) {
    let postmaster = PidFile::read(cluster).map(|file| file.pid);
    if let Some(pid) = postmaster.filter(|pid| inhabitants(cluster).contains(pid)) {
        stop(pid, Stop::Fast, async {
            while inhabitants(cluster).contains(&pid) {
                sleep(POLL).await;
            }
        })
        .await;
    }
    // Backends end by themselves when their postmaster has gone; one that hangs must not write any more.
    let ended = async || {
        while !inhabitants(cluster).is_empty() {
            sleep(POLL).await;
        }
    };
    if timeout(IMMEDIATE, ended()).await.is_err() {
        for pid in inhabitants(cluster) {
            let _ = kill_process(pid, Signal::KILL);
        }
        ended().await;
    }
    // Another program may have the number by now (after a reboot it is likely to), or a zombie that nobody
    // waits for still has it (in a container), and PostgreSQL would not start. Where /proc says that the
    // cluster is nobody's, the lock files are history.
    if cfg!(target_os = "linux") {
        let _ = std::fs::remove_file(cluster.join("postmaster.pid"));
        let _ = std::fs::remove_file(socket.join(SOCKET_LOCK));
    }
}

/// The processes of PostgreSQL in `cluster`, a canonical path: they are those that work there.
#[cfg(target_os = "linux")]
fn inhabitants(cluster: &Path) -> Vec<Pid> {
    let works_there = |pid: &Pid| {
        let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == "postgres")
            && std::fs::read_link(process.join("cwd")).is_ok_and(|directory| directory == cluster)
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(works_there)
        .collect()
}

/// The postmaster of `cluster`, a canonical path: without /proc, its children are not to be told from others'.
#[cfg(not(target_os = "linux"))]
fn inhabitants(cluster: &Path) -> Vec<Pid> {
    let ours = |pid: &Pid| {
        let pid = pid.as_raw_nonzero().to_string();
        let output = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid]).output();
        output.is_ok_and(|output| {
            let command = String::from_utf8_lossy(&output.stdout);
            command.contains("postgres") && command.contains(&cluster.display().to_string())
        })
    };
    PidFile::read(cluster).map(|file| file.pid).filter(ours).into_iter().collect()
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

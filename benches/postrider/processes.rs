//! What processes have used, as proc(5) tells it; elsewhere than on Linux nothing is known.

use sqlx::postgres::PgConnection;
use std::fs;
use std::process;

/// The unit of times in proc(5), `USER_HZ`: 100 on every architecture that Linux still has.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that was used so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// By this process: the instance and the load generator.
    pub(super) server: f64,
    /// By its children: JavaScript.
    pub(super) children: f64,
    /// By the private PostgreSQL server.
    pub(super) postgres: Option<f64>,
}

impl Cpu {
    pub(super) fn now(postmaster: Option<u32>) -> Option<Self> {
        let ours = Stat::read(process::id())?;
        Some(Self {
            server: ours.own,
            children: ours.ended_children + children(process::id()).map(|(_, stat)| stat.own).sum::<f64>(),
            postgres: postmaster.and_then(|postmaster| {
                let parent = Stat::read(postmaster)?;
                let backends: f64 = children(postmaster).map(|(_, stat)| stat.own).sum();
                Some(parent.own + parent.ended_children + backends)
            }),
        })
    }

    /// What was used since `before`, by part, in microseconds for each of `count` messages.
    pub(super) fn each(&self, before: &Self, count: usize) -> Vec<(&'static str, f64)> {
        let each = |now: f64, then: f64| (now - then) * 1e6 / count as f64;
        let mut parts = vec![("server CPU", each(self.server, before.server))];
        if self.children > before.children {
            parts.push(("JavaScript CPU", each(self.children, before.children)));
        }
        if let (Some(now), Some(then)) = (self.postgres, before.postgres) {
            parts.push(("PostgreSQL CPU", each(now, then)));
        }
        parts
    }
}

/// The process that a connection's backend is a child of. Only for a server on this machine.
pub(super) async fn postmaster(connection: &mut PgConnection) -> Option<u32> {
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.ok()?;
    Some(Stat::read(backend.try_into().ok()?)?.parent)
}

/// Begins a new peak of this process's memory.
pub(super) fn forget_peak() {
    // Refused or not there: then the peak is that of the whole run.
    drop(fs::write("/proc/self/clear_refs", "5"));
}

/// The most memory that this process had at once, in MiB.
pub(super) fn peak_memory() -> Option<f64> {
    peak_of(process::id())
}

/// Of the JavaScript children that live: how many there are, and the most memory that one of them had, in MiB.
pub(super) fn javascript_children() -> (usize, f64) {
    let peaks: Vec<f64> = children(process::id())
        .filter(|(pid, _)| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"javascript-child\0"))
        })
        .filter_map(|(pid, _)| peak_of(pid))
        .collect();
    (peaks.len(), peaks.into_iter().fold(0.0, f64::max))
}

fn peak_of(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, PartialEq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) own: f64,
    /// What children used that have ended and were waited for.
    pub(super) ended_children: f64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, whatever is in it.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let seconds = |field: usize| Some(fields.get(field)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: seconds(11)? + seconds(12)?,
            ended_children: seconds(13)? + seconds(14)?,
        })
    }
}

fn children(of: u32) -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Stat::read(pid).filter(|stat| stat.parent == of).map(|stat| (pid, stat))
    })
}

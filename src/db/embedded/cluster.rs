//! Makes the cluster: whole, or not at all.

use super::home::Home;
use super::programs::Programs;
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The superuser and the database that every cluster has.
pub(super) const NAME: &str = "postrider";
/// What the names of clusters in the making begin with.
const UNFINISHED: &str = "cluster-";

/// Makes the cluster of `home` when there is none. Killed at any moment, it leaves no half cluster: all is
/// made and written to disk under another name, and renaming is one step.
///
/// When the future is dropped, what it runs is killed.
pub(super) async fn make(home: &Home, programs: &Programs, log: &File) -> anyhow::Result<()> {
    if home.made_by().is_some() {
        return Ok(());
    }
    sweep(&home.directory)?;
    let user = programs.user.as_ref();
    let attempt = async |locale: &str| {
        let directory = home.private(&format!("{UNFINISHED}{}-{locale}", std::process::id()), user)?;
        build(&directory, locale, programs, log).await?;
        fs::rename(directory, home.cluster())?;
        File::open(&home.directory)?.sync_all().context("cannot write the cluster to disk")
    };
    // Both sort by bytes, as an index of ids wants it. C.UTF-8 knows letters, too, but not every system has it.
    let made = match attempt("C.UTF-8").await {
        Err(_) => attempt("C").await,
        made => made,
    };
    sweep(&home.directory)?;
    made
}

/// Fills `directory` with a cluster, and writes it to disk at the end, once, rather than file by file.
async fn build(directory: &Path, locale: &str, programs: &Programs, log: &File) -> anyhow::Result<()> {
    let mut initdb = programs.command("initdb");
    initdb
        .arg("--pgdata")
        .arg(directory)
        .args(["--username", NAME, "--encoding", "UTF8", "--locale", locale])
        // Who reaches the socket, in a private directory, is let in; there is no other way in.
        .args(["--auth-local", "trust", "--auth-host", "reject"])
        .args(["--data-checksums", "--no-sync", "--no-instructions"])
        .stdin(Stdio::null());
    run(initdb, log).await?;

    let (statements, mut writer) = std::io::pipe()?;
    writeln!(writer, "CREATE DATABASE {NAME}")?;
    drop(writer);
    let mut single = programs.command("postgres");
    single
        .arg("--single")
        .arg("-D")
        .arg(directory)
        .args(["-c", "exit_on_error=on", "-c", "fsync=off", "postgres"])
        .stdin(statements);
    run(single, log).await?;

    let mut sync = programs.command("initdb");
    sync.arg("--sync-only").arg("--pgdata").arg(directory).stdin(Stdio::null());
    run(sync, log).await
}

/// Runs `command` to its end, in a process group that is killed when the future is dropped.
async fn run(mut command: Command, log: &File) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let program = command.get_program().to_string_lossy().into_owned();
    command.process_group(0).current_dir("/").stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut child =
        tokio::process::Command::from(command).spawn().with_context(|| format!("cannot run {program}"))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let status = child.wait().await?;
    std::mem::forget(group);
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}

/// A process group whose leader has not been waited for, so that its number is nobody else's.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Removes what was left unfinished, now or when an earlier guard was killed.
fn sweep(home: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // A forsaken initdb may still be writing there; what resists is removed another time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

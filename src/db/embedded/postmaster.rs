//! The server process: started, awaited until it accepts connections, and stopped.

use super::Stop;
use super::home::Home;
use super::process::{self, POLL, PidFile};
use super::programs::Programs;
use super::settings;
use anyhow::{Context, bail};
use rustix::process::Pid;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

/// How long a server may take until it accepts connections: after a crash it replays up to `max_wal_size`.
const PATIENCE: Duration = Duration::from_mins(2);

/// A child process `postgres`.
pub(super) struct Postmaster {
    child: Child,
    pid: Pid,
    cluster: PathBuf,
}

impl Postmaster {
    /// Starts a server on the cluster of `home`.
    pub(super) fn spawn(
        home: &Home,
        programs: &Programs,
        extra: &[(String, String)],
        log: &File,
    ) -> anyhow::Result<Self> {
        use std::os::unix::{fs::PermissionsExt, process::CommandExt};
        let cluster = home.cluster();
        let configuration = home.directory.join("server.conf");
        std::fs::write(&configuration, settings::file(extra))?;
        // Whatever our umask is, the server's user must read it; there is no secret in it.
        std::fs::set_permissions(&configuration, PermissionsExt::from_mode(0o644))?;
        let option = |name: &str, value: &str| ["-c".to_owned(), format!("{name}={value}")];
        let mut command = programs.command("postgres");
        command
            .arg("-D")
            .arg(&cluster)
            .args(option("config_file", &configuration.display().to_string()))
            // Here rather than in the file, so that no ALTER SYSTEM opens the server to others.
            .args(option("listen_addresses", ""))
            .args(option("port", "5432"))
            .args(option("unix_socket_directories", &quoted(&home.socket.display().to_string())))
            .args(option("unix_socket_permissions", "0700"))
            // A terminal's Ctrl-C is for us, not for the server: it goes to the process group.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        let child = tokio::process::Command::from(command).spawn().context("cannot run postgres")?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .context("postgres has no process id")?;
        Ok(Self { child, pid, cluster })
    }

    /// Waits until it accepts connections; it says so in its pid file, as `pg_ctl` reads it.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let (pid, cluster) = (self.pid, &self.cluster);
        let accepts = async {
            while !PidFile::read(cluster).is_some_and(|file| file.pid == pid && file.accepts_connections) {
                sleep(POLL).await;
            }
        };
        tokio::select! {
            status = self.child.wait() => bail!("postgres ended at its start: {}", status?),
            ready = timeout(PATIENCE, accepts) => {
                ready.with_context(|| format!("postgres accepts no connections after {PATIENCE:?}"))
            }
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it has ended, for whatever reason.
    pub(super) async fn ended(&mut self) {
        // It fails only when the child was waited for already: then it has ended.
        let _ = self.child.wait().await;
    }

    /// Stops it.
    pub(super) async fn stop(mut self, how: Stop) {
        process::stop(self.pid, how, self.ended()).await;
    }
}

/// A name in a list of PostgreSQL's, where commas and spaces separate.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

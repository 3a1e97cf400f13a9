//! The PostgreSQL server of a run: killed, restarted, and told the wrong time.

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection as _, Executor as _};
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const USER: &str = "postrider";
/// What postmasters are started with. All is kept small: the disk is.
const SETTINGS: [&str; 13] = [
    "listen_addresses=",
    "port=5432",
    "max_connections=120",
    "shared_buffers=64MB",
    "max_wal_size=64MB",
    "min_wal_size=16MB",
    "checkpoint_timeout=60s",
    "autovacuum_naptime=10s",
    "jit=off",
    "log_checkpoints=off",
    "log_error_verbosity=terse",
    "log_min_error_statement=panic",
    "restart_after_crash=on",
];

pub(crate) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    /// The directory of its socket.
    pub(crate) socket: PathBuf,
    log: PathBuf,
    /// Whom it runs as: root may not.
    user: Option<(u32, u32)>,
    /// The file that says how wrong its clock is, when it can be.
    clock: Option<(PathBuf, PathBuf)>,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// Makes a cluster on `disk` and starts it. `clock`: whether its clock is to be set.
    pub(crate) async fn start(place: &Path, disk: &Path, clock: bool) -> Self {
        let socket = place.join("socket");
        fs::create_dir(&socket).unwrap();
        let user = rustix::process::geteuid().is_root().then(unprivileged);
        for directory in [disk, &socket] {
            chown(directory, user.map(|user| user.0), user.map(|user| user.1)).unwrap();
        }
        let file = place.join("clock");
        let clock = clock.then(faketime).flatten().map(|library| (library, file));
        let (programs, data) = (programs(), disk.join("data"));
        let log = place.join("postgres.log");
        let server = Self { programs, data, socket, log, user, clock, child: Mutex::new(None) };
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(&server.data);
        initdb.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=4"]);
        let made = initdb.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.set_clock(0);
        server.revive().await;
        let mut db = PgConnection::connect_with(&server.options("postgres")).await.unwrap();
        db.execute("CREATE DATABASE postrider").await.unwrap();
        server
    }

    /// How to connect past every proxy.
    pub(crate) fn options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().socket(&self.socket).port(5432);
        let options = options.username(USER).database(database).ssl_mode(PgSslMode::Disable);
        options.options([("search_path", "postrider")])
    }

    /// A connection of somebody whom no nemesis reaches but the server's own death.
    pub(crate) async fn connect(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.options("postrider")).await
    }

    /// Whether its clock can be set.
    pub(crate) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Sets its clock to so many seconds beside the right time.
    pub(crate) fn set_clock(&self, offset: i64) {
        if let Some((_, file)) = &self.clock {
            // At once: the server reads the file at any moment.
            let new = file.with_extension("new");
            fs::write(&new, format!("{offset:+}")).unwrap();
            fs::rename(new, file).unwrap();
        }
    }

    /// Kills the postmaster, as nothing it could prepare for.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it if it does not run, and waits until it accepts connections.
    pub(crate) async fn revive(&self) {
        let deadline = Instant::now() + Duration::from_mins(2);
        while Instant::now() < deadline {
            {
                let mut child = self.child.lock();
                let ended = match &mut *child {
                    Some(child) => child.try_wait().is_ok_and(|ended| ended.is_some()),
                    None => true,
                };
                if ended {
                    // Refused while children of a killed one still end: then again.
                    *child = Some(self.postmaster());
                }
            }
            let options = self.options("postgres");
            let connecting = PgConnection::connect_with(&options);
            if let Ok(Ok(db)) = tokio::time::timeout(Duration::from_secs(5), connecting).await {
                drop(db.close().await);
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL does not start: see {}", self.log.display());
    }

    fn postmaster(&self) -> Child {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.socket);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if let Some((library, file)) = &self.clock {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
            command.envs([
                ("DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_CACHE_DURATION", "1"),
                ("FAKETIME_DISABLE_SHM", "1"),
            ]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().current_dir("/").process_group(0);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut child) = self.child.lock().take() else { return };
        // An immediate shutdown, which takes its children along.
        _ = kill_process(Pid::from_child(&child), Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

/// Where PostgreSQL's programs are: the newest that is installed.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let programs = path.join("bin");
            programs.join("postgres").exists().then_some((version, programs))
        })
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, programs)| programs);
    newest.or_else(|| on_path("initdb")).expect("PostgreSQL's programs are installed")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|directory| directory.join(program).exists())
}

/// The library that lies about the time.
fn faketime() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = directories.map(|directory| directory.join("faketime/libfaketime.so.1"));
    found.find(|library| library.exists())
}

/// The number of `postgres`, or of `nobody`.
fn unprivileged() -> (u32, u32) {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |wanted: &str| {
        accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_it = fields.first() == Some(&wanted);
            is_it.then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))).flatten()
        })
    };
    user("postgres").or_else(|| user("nobody")).expect("PostgreSQL does not run as root")
}

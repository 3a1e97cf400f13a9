//! A private PostgreSQL server, so that Postrider runs on a machine where nothing is set up.
//!
//! ```text
//! postrider ──pipe──▶ postrider embedded-guard ──starts, stops──▶ postgres (as `postgres` when we are root)
//!     └───────────────────────── unix socket ────────────────────────┘
//! ```
//! The server listens on a unix socket only, in a directory that nobody else can enter. See [`guard`](run_guard)
//! for how it ends with us, and `home.rs` for what is where on disk.

mod cluster;
mod guard;
mod home;
mod postmaster;
mod process;
mod programs;
mod settings;
mod user;
mod wire;

pub use guard::{GuardArgs, run_guard};
pub use process::Stop;

use anyhow::{Context, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tokio::sync::{Mutex, mpsc};
use wire::{Order, Ready, Reply};

/// The hidden subcommand of the binary that runs [`run_guard`].
pub const GUARD_COMMAND: &str = "embedded-guard";
/// What PostgreSQL's programs need of our environment. The rest (secrets, `PG…`) is none of their business.
const ENVIRONMENT: [&str; 7] =
    ["PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "RUST_BACKTRACE"];
/// What need not be escaped in the path of a URL's parameter.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// Which server to start, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its data is; made when missing.
    pub data_dir: PathBuf,
    /// The program with the subcommand [`GUARD_COMMAND`]: our own binary.
    pub guard: PathBuf,
    /// Whether the server is stopped without ceremony at the end, and `data_dir` removed.
    pub ephemeral: bool,
    /// Settings of PostgreSQL beside our own, which they overrule.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A server whose data stays.
    pub fn new(data_dir: impl Into<PathBuf>, guard: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), guard: guard.into(), ephemeral: false, settings: Vec::new() }
    }
}

/// A running private server. Dropped, it stops; [`Server::shutdown`] also waits until it has.
#[derive(Debug)]
pub struct Server {
    guard: Mutex<Guard>,
    ready: Ready,
    _lock: Option<File>,
}

/// Our end of the pipes to the guard.
#[derive(Debug)]
struct Guard {
    orders: ChildStdin,
    replies: mpsc::UnboundedReceiver<Reply>,
}

/// Starts the private server of a data directory and waits until it accepts connections.
///
/// Dropped before it is done, it stops what it has started.
///
/// # Errors
/// Another process serves from the data directory, PostgreSQL is not installed or of the wrong version, or
/// it does not start; then with the last lines of its log.
pub async fn start(options: Options) -> anyhow::Result<Server> {
    // An ephemeral directory is the guard's from the first moment, so that it is removed in any case.
    let lock = if options.ephemeral { None } else { Some(home::lock_data_dir(&options.data_dir)?) };
    let mut guard = Guard::spawn(&options)?;
    let ready = match guard.reply().await? {
        Reply::Ready(ready) => ready,
        Reply::Failed(reason) => bail!(reason),
        Reply::Stopped => bail!("the PostgreSQL server has stopped"),
    };
    tracing::info!(
        version = ready.version,
        pid = ready.pid,
        user = ready.user,
        "PostgreSQL {} runs in {}{}",
        ready.version,
        ready.cluster.display(),
        if ready.elsewhere { ", because its user cannot enter the data directory" } else { "" }
    );
    Ok(Server { guard: Mutex::new(guard), ready, _lock: lock })
}

/// Whether there is a cluster in `data_dir`. What may not be looked at counts as one: who starts it is told why not.
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("postgres").join("cluster").join("PG_VERSION").try_exists().unwrap_or(true)
}

/// How to connect to the server that another process runs on `data_dir`; none when it runs none.
pub fn running(data_dir: &Path) -> Option<PgConnectOptions> {
    let cluster = data_dir.join("postgres").join("cluster").canonicalize().ok()?;
    let file = process::PidFile::read(&cluster)?;
    file.accepts_connections.then(|| connect_options(&file.socket))
}

impl Server {
    /// How to connect: as its superuser, to its database `postrider`.
    pub fn connect_options(&self) -> PgConnectOptions {
        connect_options(&self.ready.socket)
    }

    /// The same as a URL, for `psql`, `sqlx` and people.
    pub fn url(&self) -> String {
        let socket = self.ready.socket.to_string_lossy();
        let (name, host) = (cluster::NAME, utf8_percent_encode(&socket, PLAIN));
        format!("postgresql://{name}@localhost:5432/{name}?host={host}")
    }

    /// The major version of PostgreSQL, such as 17.
    pub fn version(&self) -> u32 {
        self.ready.version
    }

    /// Stops the server and waits until it has; [`Server::start_again`] starts it on the same socket.
    pub async fn stop(&self, how: Stop) -> anyhow::Result<()> {
        let mut guard = self.guard.lock().await;
        guard.order(Order::Stop(how))?;
        // Replies to orders whose sender went away come first.
        while !matches!(guard.reply().await?, Reply::Stopped) {}
        Ok(())
    }

    /// Starts the server that [`Server::stop`] stopped, and waits until it accepts connections.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let mut guard = self.guard.lock().await;
        guard.order(Order::Start)?;
        loop {
            match guard.reply().await? {
                Reply::Ready(_) => return Ok(()),
                Reply::Failed(reason) => bail!(reason),
                Reply::Stopped => {}
            }
        }
    }

    /// Stops the server, lets its guard end, and waits for both.
    pub async fn shutdown(self) {
        let Guard { orders, mut replies } = self.guard.into_inner();
        drop(orders);
        while replies.recv().await.is_some() {}
        // The guard has stopped it, unless somebody has killed the guard.
        process::clear(&self.ready.cluster, &self.ready.socket).await;
    }
}

impl Guard {
    fn spawn(options: &Options) -> anyhow::Result<Self> {
        let mut command = Command::new(&options.guard);
        command.arg(GUARD_COMMAND).arg("--data-dir").arg(&options.data_dir);
        if options.ephemeral {
            command.arg("--ephemeral");
        }
        for (name, value) in &options.settings {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        command
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            // Not in the group that a terminal's Ctrl-C goes to.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", options.guard.display()))?;
        let orders = child.stdin.take().context("the guard has no standard input")?;
        let output = child.stdout.take().context("the guard has no standard output")?;
        let (sender, replies) = mpsc::unbounded_channel();
        std::thread::spawn(move || listen(child, output, &sender));
        Ok(Self { orders, replies })
    }

    fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order)?;
        writeln!(self.orders, "{line}").context("the guard of the PostgreSQL server has gone")
    }

    async fn reply(&mut self) -> anyhow::Result<Reply> {
        self.replies.recv().await.context("the guard of the PostgreSQL server has gone")
    }
}

/// Passes on what the guard says until it ends. A thread rather than a task: a server outlives the runtime
/// that has started it when it is one of several tests'.
fn listen(mut guard: Child, output: ChildStdout, replies: &mpsc::UnboundedSender<Reply>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(reply) = serde_json::from_str(&line) {
            let _ = replies.send(reply);
        }
    }
    let _ = guard.wait();
}

fn connect_options(socket: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket)
        .port(5432)
        .username(cluster::NAME)
        .database(cluster::NAME)
        .ssl_mode(PgSslMode::Disable)
}

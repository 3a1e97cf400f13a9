//! The guard: a process of ours between Postrider and its PostgreSQL server, which ends the server when
//! Postrider ends, however it ends.
//!
//! Its standard input is a pipe from Postrider. The kernel closes it with the process, `kill -9` included,
//! and a pipe cannot be forgotten as a signal handler can. The guard alone starts and stops the server, so
//! that there is no moment in which nobody would stop it.

use super::home::{self, Home};
use super::postmaster::Postmaster;
use super::programs::Programs;
use super::user::User;
use super::wire::{Order, Ready, Reply};
use super::{Stop, cluster, process};
use anyhow::Context;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Between two attempts to bring back a server that ended by itself.
const PAUSE: Duration = Duration::from_millis(500);
/// Of a log that has grown larger than this, in bytes, one older part is kept.
const LARGEST_LOG: u64 = 16 << 20;

/// The arguments of the hidden subcommand that is the guard.
#[derive(Debug, Clone, clap::Args)]
pub struct GuardArgs {
    /// The data directory.
    #[arg(long)]
    data_dir: PathBuf,
    /// Remove the data directory at the end.
    #[arg(long)]
    ephemeral: bool,
    /// A setting of PostgreSQL, `name=value`.
    #[arg(long = "set", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the guard: starts the server, follows the orders of its standard input, and stops the server at
/// the input's end. What goes wrong is said on standard output, as `wire.rs` describes it.
pub async fn run_guard(args: GuardArgs) {
    // The end of the pipe ends it, and nothing else may: a signal to everything (a service manager's, say)
    // would take the server from under a Postrider that is still finishing its work.
    let _ignored = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let orders = Orders::from_stdin();
    // What is removed at the end must be ours from the beginning.
    if args.ephemeral
        && let Err(error) = std::fs::create_dir(&args.data_dir)
    {
        return reply(&Reply::Failed(format!("cannot make {}: {error}", args.data_dir.display())));
    }
    let site = tokio::select! {
        biased;
        () = orders.end.cancelled() => None,
        prepared = Site::prepare(&args) => Some(prepared),
    };
    match site {
        Some(Ok(site)) => site.follow(&args, orders).await,
        Some(Err(error)) => reply(&Reply::Failed(format!("{error:#}"))),
        None => {}
    }
    if args.ephemeral {
        home::remove(&args.data_dir).await;
    }
}

/// The orders that come in, read by a thread of their own: the pipe's end is noticed whatever we do.
struct Orders {
    orders: mpsc::UnboundedReceiver<Order>,
    end: CancellationToken,
}

impl Orders {
    fn from_stdin() -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let at_end = end.clone().drop_guard();
        std::thread::spawn(move || {
            let _at_end = at_end;
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if let Ok(order) = serde_json::from_str(&line) {
                    let _ = sender.send(order);
                }
            }
        });
        Self { orders, end }
    }
}

/// Says something to Postrider. When it has gone there is nobody to tell, and the input has ended too.
fn reply(reply: &Reply) {
    if let Ok(line) = serde_json::to_string(reply) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

/// Everything a server needs, ready to be started.
struct Site {
    home: Home,
    programs: Programs,
    log: File,
}

impl Site {
    async fn prepare(args: &GuardArgs) -> anyhow::Result<Self> {
        let user = User::for_server()?;
        let home = Home::open(&args.data_dir, user.as_ref()).await?;
        let path = std::env::var_os("PATH");
        let programs = Programs::find(path.as_deref(), user, home.made_by())?;
        let mut log = open_log(&home)?;
        let beginning = log.seek(SeekFrom::End(0))?;
        let made = cluster::make(&home, &programs, &log).await;
        made.map_err(|error| with_tail(error, &mut log, beginning))?;
        Ok(Self { home, programs, log })
    }

    /// Runs the server as it is ordered to, from a start to the end of the orders.
    async fn follow(mut self, args: &GuardArgs, mut orders: Orders) {
        let mut server = None;
        let mut next = Some(Order::Start);
        while let Some(order) = next {
            let end = orders.end.clone();
            match order {
                Order::Start => {
                    let started = tokio::select! {
                        biased;
                        () = end.cancelled() => break,
                        started = self.start(&mut server, args) => started,
                    };
                    match started {
                        Ok(ready) => reply(&Reply::Ready(ready)),
                        Err(error) => reply(&Reply::Failed(format!("{error:#}"))),
                    }
                }
                Order::Stop(how) => {
                    if let Some(server) = server.take() {
                        Postmaster::stop(server, how).await;
                    }
                    reply(&Reply::Stopped);
                }
            }
            next = tokio::select! {
                order = orders.orders.recv() => order,
                never = self.keep_running(&mut server, args) => match never {},
            };
        }
        if let Some(server) = server {
            server.stop(if args.ephemeral { Stop::Immediate } else { Stop::Fast }).await;
        }
    }

    /// Starts the server and waits until it accepts connections. It is in `server` from its first moment.
    async fn start(&mut self, server: &mut Option<Postmaster>, args: &GuardArgs) -> anyhow::Result<Ready> {
        let beginning = self.log.seek(SeekFrom::End(0))?;
        let postmaster = match server {
            Some(running) => running,
            None => server.insert(self.spawn(args).await?),
        };
        let Err(error) = postmaster.ready().await else { return Ok(self.ready(postmaster)) };
        if let Some(failed) = server.take() {
            failed.stop(Stop::Immediate).await;
        }
        Err(with_tail(error, &mut self.log, beginning))
    }

    /// Starts a server, once no process of an earlier one is left.
    async fn spawn(&self, args: &GuardArgs) -> anyhow::Result<Postmaster> {
        process::clear(&self.home.cluster(), &self.home.socket).await;
        Postmaster::spawn(&self.home, &self.programs, &args.settings, &self.log)
    }

    fn ready(&self, postmaster: &Postmaster) -> Ready {
        Ready {
            socket: self.home.socket.clone(),
            cluster: self.home.cluster(),
            elsewhere: self.home.elsewhere,
            user: self.programs.user.as_ref().map(|user| user.name.clone()),
            version: self.programs.version,
            pid: postmaster.pid().as_raw_nonzero().get(),
        }
    }

    /// Brings a server back that ended without an order, again and again: Postrider waits for its database
    /// and nobody else would start this one.
    async fn keep_running(&self, server: &mut Option<Postmaster>, args: &GuardArgs) -> Infallible {
        let Some(postmaster) = server else { return std::future::pending().await };
        loop {
            postmaster.ended().await;
            tokio::time::sleep(PAUSE).await;
            if let Ok(again) = self.spawn(args).await {
                *postmaster = again;
            }
        }
    }
}

/// The log of the server, for us alone. A large one is put aside.
fn open_log(home: &Home) -> anyhow::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = home.directory.join("server.log");
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > LARGEST_LOG) {
        std::fs::rename(&path, path.with_extension("log.old"))?;
    }
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// `error` with the last lines that the server has logged since `beginning`.
fn with_tail(error: anyhow::Error, log: &mut File, beginning: u64) -> anyhow::Error {
    let mut text = Vec::new();
    if log.seek(SeekFrom::Start(beginning)).and_then(|_| log.read_to_end(&mut text)).is_err() {
        return error;
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
    anyhow::anyhow!("{error:#}\n  {last}")
}

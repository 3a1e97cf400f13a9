//! `cargo bench`: how fast this is, each figure beside what plain SQL reaches in the same run.
//!
//! Runs on a private PostgreSQL server made for the run, or in schemas of its own on the server that `DATABASE_URL`
//! names; both are gone afterwards. Allow nine minutes on a machine that has nothing else to do.
//!
//! | file | duty |
//! | --- | --- |
//! | `push.rs` … `channels.rs` | one workload each: measures once, on an instance of its own |
//! | `flow.rs` | producers and workers at once, for `sustained` and `held` |
//! | `raw.rs`, `inserts.rs` | what the same work costs in plain SQL: the ceilings |
//! | `lab.rs`, `server.rs` | the server, and instances on schemas of their own that are dropped again |
//! | `client.rs`, `handled.rs`, `processes.rs` | load over HTTP; how much was handled; CPU and memory |
//! | `endpoint.rs` | what deliveries are sent to |
//! | `hanging.rs` | the hub's second figure: what endpoints that hang cost the others |
//! | `measure.rs`, `times.rs`, `table.rs` | figures, their medians, how they are shown |

#![expect(clippy::cast_precision_loss, reason = "figures are rounded when they are shown")]
#![expect(clippy::print_stdout, reason = "what it prints is its answer")]

mod backlog;
mod channels;
mod client;
mod drain;
mod endpoint;
mod flow;
mod handled;
mod hanging;
mod held;
mod hub;
mod idle;
mod inserts;
mod javascript;
mod lab;
mod latency;
mod measure;
mod processes;
mod push;
mod raw;
mod server;
mod sizes;
mod sql;
mod sustained;
mod table;
mod times;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lab::Lab;
use measure::{Measure, Row, Unit, summarize};
use postrider::Config;
use postrider::internals::http::init_logging;
use sizes::Sizes;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// As in the program.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to measure, and for how long.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --", version)]
struct Args {
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD,…")]
    only: Vec<Workload>,
    /// How often each workload is measured (3, with `--quick` 1)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: Option<u16>,
    /// Small sizes, for a look: a minute and a half
    #[arg(long)]
    quick: bool,
    /// The long sizes: `held` 60 s instead of 20 s, 2 million behind `backlog` instead of 300,000; half an hour
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// One JSON document instead of the table
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Pushes over HTTP at 1, 16 and 64 connections, beside single INSERTs by as many clients
    Push,
    /// Messages that wait already, through a native handler, beside the raw batched life cycle
    Drain,
    /// Producers over HTTP and workers at once, end to end, beside the raw life cycle with its inserts
    Sustained,
    /// From the commit of a push to the start of its handler at 200/s, beside a raw claim after a commit
    Latency,
    /// What applications enqueue from SQL: from the commit to the handler at 1/s and 200/s, beside a raw claim after the
    /// commit; and enqueues by 64 sessions, beside the same without the bell that wakes workers
    Sql,
    /// Messages through the document's JavaScript handler, beside a native one of the same concurrency
    Javascript,
    /// Statements a second of a server that has nothing to do
    Idle,
    /// `sustained` while another session holds a snapshot, beside the same without
    Held,
    /// Deliveries of the hub to an endpoint that answers at once, beside plain requests; and from a push to the
    /// endpoint at 200/s while ten of twenty endpoints hang, beside the same while none does
    Hub,
    /// A drain while many more messages wait, beside the same without
    Backlog,
    /// 10,000 subscribers of 200 jobs that publish every second, polls and streams, beside a raw read by key
    Channels,
}

impl Workload {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Measures once.
    async fn measure(self, lab: &Lab) -> anyhow::Result<Vec<Measure>> {
        match self {
            Self::Push => push::measure(lab).await,
            Self::Drain => drain::measure(lab).await,
            Self::Sustained => sustained::measure(lab).await,
            Self::Latency => latency::measure(lab).await,
            Self::Sql => sql::measure(lab).await,
            Self::Javascript => javascript::measure(lab).await,
            Self::Idle => idle::measure(lab).await,
            Self::Held => held::measure(lab).await,
            Self::Hub => hub::measure(lab).await,
            Self::Backlog => backlog::measure(lab).await,
            Self::Channels => channels::measure(lab).await,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // What cargo says to every benchmark is nothing that one could choose.
    let args = Args::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    let mut config = Config::from_env()?;
    // What an instance says at its start, what sqlx says of statements that a full machine makes slow, and that
    // attempts fail at the endpoints that hang on purpose, would stand between the rows.
    if config.log == "info" {
        "warn,sqlx=error,postrider::hub::delivery::attempt=error".clone_into(&mut config.log);
    }
    init_logging(&config)?;
    let lab = Lab::open(config, Sizes::new(args.quick, args.full)).await?;
    // However it ends, what was made is removed again.
    let mut terminate = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = measure_all(&lab, &args) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    lab.close().await?;
    done
}

async fn measure_all(lab: &Lab, args: &Args) -> anyhow::Result<()> {
    let all = Workload::value_variants();
    let workloads: Vec<Workload> =
        all.iter().copied().filter(|workload| args.only.is_empty() || args.only.contains(workload)).collect();
    let repeat = args.repeat.unwrap_or(if args.quick { 1 } else { 3 });
    let setting = lab.setting(repeat).await?;
    let bar = progress(workloads.len() * usize::from(repeat));
    if !args.json {
        bar.suspend(|| table::head(&setting));
    }
    let (mut rows, mut peaks) = (Vec::new(), Vec::new());
    for workload in workloads {
        let name = workload.name();
        let mut samples = Vec::new();
        processes::forget_peak();
        for turn in 1..=repeat {
            bar.set_message(format!("{name} {turn}/{repeat}"));
            samples.push(workload.measure(lab).await?);
            bar.inc(1);
        }
        peaks.extend(processes::peak_memory().map(|peak| (name.clone(), peak)));
        let of_workload = summarize(&name, &samples);
        if !args.json {
            bar.suspend(|| of_workload.iter().for_each(table::row));
        }
        rows.extend(of_workload);
    }
    bar.finish_and_clear();
    if let Some(memory) = memory(&peaks) {
        if !args.json {
            table::row(&memory);
        }
        rows.push(memory);
    }
    if args.json {
        table::json(&setting, &rows)?;
    }
    Ok(())
}

/// The most memory that this process had, over all workloads and in each.
fn memory(peaks: &[(String, f64)]) -> Option<Row> {
    let highest = peaks.iter().map(|(_, peak)| *peak).reduce(f64::max)?;
    let measure = Measure::new("peak of server and load generator", Unit::Mebibytes, highest);
    let measure =
        peaks.iter().fold(measure, |measure, (name, peak)| measure.with(name, Unit::Mebibytes, *peak));
    summarize("memory", &[vec![measure]]).pop()
}

/// A bar on a terminal; nothing anywhere else.
fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

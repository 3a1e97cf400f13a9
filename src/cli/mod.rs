//! The command line: one file a subcommand.
#![expect(clippy::print_stdout, reason = "what a command prints is its answer")]

mod bench;
mod database;
mod migrate;
mod serve;
mod token;

use crate::config::Config;
use crate::db::embedded::{GUARD_COMMAND, GuardArgs, run_guard};
use crate::queues::javascript::child;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Job and queue orchestration on nothing but PostgreSQL.
///
/// Without a subcommand: `serve`. Settings are environment variables; `.env.example` lists them.
#[derive(Debug, Parser)]
#[command(version, name = "postrider")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and run handlers, on a private PostgreSQL unless `DATABASE_URL` names one (the default)
    Serve,
    /// Run handlers without serving the API; needs `DATABASE_URL`
    Worker,
    /// Bring the database to this version, or take the newest migration back
    Migrate(migrate::Args),
    /// Measure how fast this is, each figure beside what plain SQL reaches in the same run
    ///
    /// Runs on a private PostgreSQL server made for the run, or in schemas of its own on the server that
    /// `DATABASE_URL` names; both are gone afterwards. Allow eight minutes on a machine that has nothing else
    /// to do.
    Bench(bench::Args),
    /// Sign a token with the configured or the development secret
    Token(token::Args),
    #[command(name = GUARD_COMMAND, hide = true)]
    Guard(GuardArgs),
    #[command(name = "javascript-child", hide = true)]
    JavaScriptChild,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command.unwrap_or(Command::Serve);
    // A child runs someone's handler: it has no use for our settings, our threads or our log.
    if matches!(command, Command::JavaScriptChild) {
        return child::main().unwrap_or(ExitCode::FAILURE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = runtime.block_on(run(command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Guard(args) => {
            run_guard(args).await;
            Ok(())
        }
        Command::Serve => serve::serve(Config::from_env()?).await,
        Command::Worker => serve::worker(Config::from_env()?).await,
        Command::Migrate(args) => migrate::run(Config::from_env()?, &args).await,
        Command::Bench(args) => bench::run(Config::from_env()?, &args).await,
        Command::Token(args) => token::run(&Config::from_env()?, &args),
        Command::JavaScriptChild => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "why a command failed goes to standard error")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("postrider: {error:#}");
    ExitCode::FAILURE
}

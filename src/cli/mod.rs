//! The command line: one file a subcommand.
#![expect(clippy::print_stdout, reason = "what a command prints is its answer")]

mod database;
mod demo;
mod doctor;
mod grant;
mod keys;
mod migrate;
mod push;
mod report;
mod sdk;
mod serve;
mod signals;
mod tail;
mod token;
mod why;

use crate::config::{Config, EXPLAINED};
use crate::db::embedded::{GUARD_COMMAND, GuardArgs, run_guard};
use crate::error::explain;
use crate::queues::javascript::child;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Job and queue orchestration on nothing but PostgreSQL.
///
/// Without a subcommand: `serve`. Settings are environment variables, or lines of a file .env in the current directory;
/// `postrider serve --help` lists them.
#[derive(Debug, Parser)]
#[command(version, name = "postrider")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, run handlers and deliver, on a private PostgreSQL unless `DATABASE_URL` names one (the default)
    #[command(after_long_help = EXPLAINED)]
    Serve,
    /// Run handlers and deliver without serving the API; needs `DATABASE_URL`
    #[command(after_long_help = EXPLAINED)]
    Worker,
    /// Bring the database to this version, or take the newest migration back
    Migrate(migrate::Args),
    /// Let a role of PostgreSQL call the SQL functions for a queue, a store or a job type, or read the reports
    Grant(grant::GrantArgs),
    /// Take back what `grant` gave
    Revoke(grant::RevokeArgs),
    /// Change the keys that secrets are sealed with
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Sign a token with the configured or the development secret
    Token(token::Args),
    /// Print the parts of `POSTRIDER_SDK_FILE`, which says who logs in with the vendor's client to the job channels
    #[command(subcommand)]
    Sdk(sdk::Sdk),
    /// Push a message to a queue and print its id
    Push(push::Args),
    /// Follow a queue's messages as they are pushed and as they end, until Ctrl-C; or what is said about a job,
    /// until it ends
    Tail(tail::Args),
    /// Answer a report about queues, jobs or the hub; without a name, list them
    Report(report::Args),
    /// Say why a message, a delivery or a job is not running, and what to do about it
    Why(why::Args),
    /// Look at everything that must be in order, and say what to do about what is not
    Doctor,
    /// Show what Postrider does, end to end, on a server of its own that leaves nothing behind
    Demo,
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
        // Whoever read our output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Guard(args) => {
            run_guard(args).await;
            Ok(())
        }
        Command::Serve => serve::serve(Config::of_program()?).await,
        Command::Worker => serve::worker(Config::of_program()?).await,
        Command::Migrate(args) => migrate::run(Config::of_program()?, &args).await,
        Command::Grant(args) => grant::grant(Config::of_program()?, args).await,
        Command::Revoke(args) => grant::revoke(Config::of_program()?, args).await,
        Command::Keys(keys) => keys::run(Config::of_program()?, &keys).await,
        Command::Token(args) => token::run(&Config::of_program()?, &args),
        Command::Sdk(part) => sdk::run(&part),
        Command::Push(args) => push::run(Config::of_program()?, &args).await,
        Command::Tail(args) => tail::run(Config::of_program()?, &args).await,
        Command::Report(args) => report::run(Config::of_program()?, &args).await,
        Command::Why(args) => why::run(Config::of_program()?, &args).await,
        Command::Doctor => doctor::run(Config::of_program()).await,
        Command::Demo => Box::pin(demo::run()).await,
        Command::JavaScriptChild => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "why a command failed goes to standard error")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("postrider: {}", explain(error.as_ref()));
    ExitCode::FAILURE
}

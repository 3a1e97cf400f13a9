//! The command line.

use clap::{Parser, Subcommand};
use postrider::db::embedded::{GuardArgs, run_guard};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the embedded server.
    #[command(hide = true)]
    EmbeddedGuard(GuardArgs),
}

#[tokio::main]
async fn main() {
    match Arguments::parse().command {
        Command::EmbeddedGuard(args) => run_guard(args).await,
    }
}

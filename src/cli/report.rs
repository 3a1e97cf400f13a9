//! `postrider report`: answers one of the reports, or lists them.

use super::database::{Database, advised};
use crate::config::Config;
use crate::reports::{self, Parameters, REPORTS, Report};
use anyhow::Context as _;
use std::io::Write as _;
use std::time::Duration;

/// Which report.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The report's name; absent, all are listed
    name: Option<String>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How far to look back, such as 6h; absent, as the report says
    #[arg(long, value_parser = humantime::parse_duration)]
    period: Option<Duration>,
    /// How long before that something may have been made to count, such as 1day
    #[arg(long, value_parser = humantime::parse_duration)]
    lookback: Option<Duration>,
    /// How long an attempt may run before it counts as stuck, such as 10m
    #[arg(long, value_parser = humantime::parse_duration)]
    long: Option<Duration>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For spreadsheets
    Csv,
    /// For programs
    Json,
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let Some(name) = &args.name else { return list() };
    let report = Report::find(name)
        .with_context(|| format!("there is no report {name}; `postrider report` lists them"))?;
    let parameters = Parameters { period: args.period, lookback: args.lookback, long: args.long };
    let database = Database::join(&config).await?;
    let db = database.checked_pools(&config).await?;
    let answer = reports::store::run(&db.api, report, parameters, config.command_timeout).await;
    let answer = answer.map_err(advised)?;
    let text = answer.write(match args.format {
        Format::Table => reports::Format::Table,
        Format::Csv => reports::Format::Csv,
        Format::Json => reports::Format::Json,
    })?;
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    db.close().await;
    database.close().await;
    Ok(())
}

fn list() -> anyhow::Result<()> {
    let widest = REPORTS.iter().map(|report| report.name.len()).max().unwrap_or(0);
    let mut out = std::io::stdout();
    for report in REPORTS {
        writeln!(out, "{:<widest$}  {}", report.name, report.question())?;
    }
    Ok(())
}

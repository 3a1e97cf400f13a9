//! `postrider tail`: what happens to the messages of a queue, or what is said about a job, as it happens.

mod job;
mod queue;

use super::database::Database;
use super::signals::Signals;
use crate::config::Config;

/// What to follow.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A queue's name, or a job's number
    #[arg(value_name = "QUEUE|JOB", required_unless_present_any = ["queue", "job"])]
    of: Option<String>,
    /// A queue, also when its name is a number
    #[arg(long, value_name = "NAME", conflicts_with = "of")]
    queue: Option<String>,
    /// A job
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["of", "queue"])]
    job: Option<i64>,
    /// How many messages that are there already to begin with
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u32,
    /// A queue's messages and ends in full, however long
    #[arg(long)]
    whole: bool,
}

impl Args {
    /// The number of the job to follow, if it is one.
    fn job(&self) -> Option<i64> {
        self.job.or_else(|| self.of.as_ref()?.parse().ok())
    }
}

/// Follows until Ctrl-C, a job at most until its end.
pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let database = Database::join(&config).await?;
    let db = database.checked_pools(&config).await?;
    let follow = async {
        if let Some(job) = args.job() {
            return job::follow(&db.api, job, args.lines, config.broadcast_retention).await;
        }
        let name = args.queue.as_ref().or(args.of.as_ref()).map_or("", String::as_str);
        queue::follow(&db.api, name, args.lines, args.whole).await
    };
    let followed = signals.unless(follow).await.unwrap_or(Ok(()));
    db.close().await;
    database.close().await;
    followed
}

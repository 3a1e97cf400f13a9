//! What is let go of jobs in time: messages past retention, registrations of jobs that ended that long ago, old jobs,
//! persons who have no jobs any more, old idempotency keys, sessions that nobody uses.

use super::routes::Jobs;
use super::sdk::sessions::IDLE;
use super::store::{broadcasts, cardholders, idempotency, jobs, registrations, sessions};
use crate::worker::upkeep::{self, Step, Upkeep};
use std::fmt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the key of a request that created jobs is known.
const KEYS: Duration = Duration::from_hours(24);
/// Rows in one statement.
const BATCH: i64 = 2000;

/// Tidies until `stop`.
pub async fn run(jobs: Jobs, stop: CancellationToken) {
    let pool = jobs.db.worker.clone();
    upkeep::run(Tidy(jobs), &pool, &stop).await;
}

struct Tidy(Jobs);

/// What there is to tidy.
#[derive(Debug, Clone, Copy)]
enum Duty {
    Broadcasts,
    Registrations,
    Jobs,
    Cardholders,
    Keys,
    Sessions,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broadcasts => "forget old messages of jobs",
            Self::Registrations => "forget registrations for jobs that ended",
            Self::Jobs => "forget old jobs",
            Self::Cardholders => "forget cardholders who have no jobs any more",
            Self::Keys => "forget idempotency keys of jobs",
            Self::Sessions => "forget sessions that have ended",
        })
    }
}

impl Upkeep for Tidy {
    const NAME: &'static str = "job_retention";
    type Duty = Duty;
    const DUTIES: &'static [Duty] =
        &[Duty::Broadcasts, Duty::Registrations, Duty::Jobs, Duty::Cardholders, Duty::Keys, Duty::Sessions];

    async fn step(&mut self, duty: Duty) -> sqlx::Result<Step> {
        let Jobs { db, retention, job_retention, .. } = &self.0;
        let pool = &db.worker;
        let deleted = match duty {
            Duty::Broadcasts => broadcasts::forget(pool, *retention, BATCH).await?,
            Duty::Registrations => registrations::forget(pool, *retention, BATCH).await?,
            Duty::Jobs => jobs::forget(pool, *job_retention, BATCH).await?,
            // A day more than its jobs, so that who comes back meanwhile has the number still.
            Duty::Cardholders => cardholders::forget(pool, *job_retention + KEYS, BATCH).await?,
            Duty::Keys => idempotency::forget(pool, KEYS, BATCH).await?,
            Duty::Sessions => sessions::forget(pool, IDLE, BATCH).await?,
        };
        let is_all = deleted < BATCH.unsigned_abs();
        Ok(if is_all { Step::Done } else { Step::More("it deletes old jobs and what was said about them") })
    }
}

//! What happens to jobs by time alone: they time out, and are cancelled at last. Forgetting them is another's part
//! (`tidy.rs`), which waits for no deadline.
//!
//! Every process looks when the next deadline has come that it knows of. One at a time does what is to be done,
//! by a leased row; when it dies another goes on within seconds.

use super::deadline;
use super::failures::{Ended, Run};
use super::routes::Jobs;
use super::store::due::{self, Overdue};
use super::store::jobs;
use crate::db;
use crate::error::Result;
use crate::traces::Context;
use crate::worker::store as engine;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DUTY_NAME: &str = "jobs";
/// For how long the duty is taken, at each batch of overdue jobs: who dies with it keeps the others waiting so long.
const DUTY: Duration = Duration::from_secs(10);
/// How soon to look again when jobs are overdue and another process has the duty.
const RIVAL: Duration = Duration::from_secs(1);
/// The pause between two looks for deadlines: never shorter, however often the bell rings, ...
const SHORTEST: Duration = Duration::from_millis(100);
/// ... never longer while jobs have deadlines (other processes may set nearer ones), ...
const LONGEST: Duration = Duration::from_secs(5);
/// ... and this while none has.
const IDLE: Duration = Duration::from_secs(15);
/// Overdue jobs for which the duty is taken at once.
const OVERDUE: i64 = 200;

/// Keeps the deadlines of jobs until `stop`.
pub async fn run(jobs: Jobs, stop: CancellationToken) {
    let mut upkeep = Upkeep { jobs, holder: Uuid::new_v4() };
    while !stop.is_cancelled() {
        let pause = match upkeep.round().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "cannot keep the deadlines of jobs; trying again");
                LONGEST
            }
        };
        // A tenth of jitter, so that processes that started together do not look together.
        let pause = pause.mul_f64(rand::random_range(0.9..=1.1));
        let bell = Arc::clone(&upkeep.jobs.deadlines);
        let rest = async {
            tokio::time::sleep(SHORTEST).await;
            // A deadline that is set in this process need not wait for the next look.
            drop(tokio::time::timeout(pause.saturating_sub(SHORTEST), bell.notified()).await);
        };
        stop.run_until_cancelled(rest).await;
    }
}

struct Upkeep {
    jobs: Jobs,
    holder: Uuid,
}

impl Upkeep {
    /// Does what is due; returns how long there is nothing to do. Looking is a read of one index; only who finds
    /// something takes the duty.
    async fn round(&mut self) -> Result<Duration> {
        let pool = &self.jobs.db.worker;
        let next = due::next(pool).await?;
        if next.is_some_and(|seconds| seconds <= 0.0) {
            if !self.on_duty().await? {
                return Ok(RIVAL);
            }
            let ended = end_overdue(&self.jobs).await;
            engine::leave_duty(pool, DUTY_NAME, self.holder).await?;
            // None ended: other workers are ending them themselves just now.
            return Ok(if ended? > 0 { Duration::ZERO } else { RIVAL });
        }
        Ok(next.map_or(IDLE, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default().min(LONGEST)))
    }

    async fn on_duty(&self) -> sqlx::Result<bool> {
        engine::take_duty(&self.jobs.db.worker, DUTY_NAME, self.holder, DUTY.as_secs_f64()).await
    }
}

/// Ends a batch of overdue jobs, each in its own transaction; returns how many.
async fn end_overdue(jobs: &Jobs) -> Result<usize> {
    let overdue = due::overdue(&jobs.db.worker, OVERDUE).await?;
    let mut count = 0;
    for Overdue { id, type_id, item } in overdue {
        let ended = db::transaction::<_, sqlx::Error, _>(&jobs.db.worker, move |tx| {
            Box::pin(async move {
                // The lease before the job, as workers lock them.
                engine::lock_item(&mut *tx, type_id, item).await?;
                let passed = due::lock(&mut *tx, id).await?.unwrap_or_default();
                let Some(end) = deadline::end_of(&passed) else { return Ok(None) };
                let seq = jobs::broadcast(tx, id, &end).await?;
                Ok(Some((seq, end, passed)))
            })
        });
        let Some((seq, end, passed)) = ended.await? else { continue };
        count += 1;
        jobs.tails.said(id, seq);
        let job_type = jobs.types.by_id(type_id);
        if let Some(job_type) = &job_type {
            job_type.series.said(end["termination_type"].as_str());
            job_type.series.expired.increment(u64::from(passed.answer.is_some()));
        }
        let text = |name: &str| end[name].as_str().map(str::to_owned);
        Ended {
            job: id,
            kind: job_type.map(|job_type| job_type.name.clone()),
            end: text("termination_type"),
            status: text("status"),
            cancelled: passed.cancel,
            request_id: passed.request_id,
            trace: passed.trace.as_deref().and_then(Context::of_stored),
            run: Run::of(item, passed.lease, passed.started_at),
            ..Ended::default()
        }
        .tell(&jobs.tracer);
    }
    Ok(count)
}

//! What happens to jobs by time alone: they time out, are cancelled at last, and are forgotten.
//!
//! One process at a time does it, by a leased row; when it dies another goes on within seconds.

use super::deadline;
use super::routes::Jobs;
use super::store::{broadcasts, due, jobs, registrations};
use crate::db;
use crate::error::Result;
use crate::worker::store as engine;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// For how long the duty is taken, and after how long it is taken again.
const DUTY: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(9);
/// The pause between two looks: never shorter, and never longer than the second while jobs have deadlines.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// The pause while no job has a deadline, or another process has the duty.
const IDLE: Duration = Duration::from_secs(10);
/// How often old messages are deleted, and types that other processes loaded are learned of.
const TIDY: Duration = Duration::from_mins(1);
/// Rows in one statement.
const BATCH: i64 = 2000;

/// Keeps the deadlines of jobs until `stop`.
pub async fn run(jobs: Jobs, stop: CancellationToken) {
    let mut upkeep = Upkeep { jobs, holder: Uuid::new_v4(), held: None, tidied: None };
    while !stop.is_cancelled() {
        let pause = match upkeep.round().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "cannot keep the deadlines of jobs; trying again");
                LONGEST
            }
        };
        // A deadline that is set in this process need not wait for the next look.
        let woken = tokio::time::timeout(pause, upkeep.jobs.deadlines.notified());
        stop.run_until_cancelled(woken).await;
    }
}

struct Upkeep {
    jobs: Jobs,
    holder: Uuid,
    /// When the duty was last taken.
    held: Option<Instant>,
    tidied: Option<Instant>,
}

impl Upkeep {
    /// Does what is due; gives how long there is nothing to do.
    async fn round(&mut self) -> Result<Duration> {
        let pool = &self.jobs.db.worker;
        let is_tidy = self.tidied.is_some_and(|at| at.elapsed() < TIDY);
        if !is_tidy {
            self.jobs.types.refresh(pool).await?;
            self.tidied = Some(Instant::now());
        }
        if self.held.is_none_or(|at| at.elapsed() > AGAIN) {
            let asked = Instant::now();
            let taken = engine::take_duty(pool, "jobs", self.holder, DUTY.as_secs_f64()).await?;
            self.held = taken.then_some(asked);
        }
        if self.held.is_none() {
            return Ok(IDLE);
        }
        if !is_tidy {
            tidy(&self.jobs).await?;
        }
        let mut next = due::next(pool).await?;
        while next.is_some_and(|seconds| seconds <= 0.0) && end_overdue(&self.jobs).await? > 0 {
            next = due::next(pool).await?;
        }
        Ok(match next {
            Some(seconds) => {
                Duration::try_from_secs_f64(seconds).unwrap_or_default().clamp(SHORTEST, LONGEST)
            }
            None => IDLE,
        })
    }
}

/// Ends a batch of overdue jobs, each in its own transaction; gives how many.
async fn end_overdue(jobs: &Jobs) -> Result<usize> {
    let overdue = due::overdue(&jobs.db.worker, BATCH).await?;
    let mut ended = 0;
    for (id, item) in &overdue {
        let (id, item) = (*id, *item);
        let seq = db::transaction::<_, sqlx::Error, _>(&jobs.db.worker, move |tx| {
            Box::pin(async move {
                // The lease before the job, as workers lock them.
                engine::lock_item(&mut *tx, item).await?;
                let passed = due::lock(&mut *tx, id).await?.unwrap_or_default();
                match deadline::end_of(&passed) {
                    Some(end) => jobs::broadcast(tx, id, &end).await.map(Some),
                    None => Ok(None),
                }
            })
        })
        .await?;
        if let Some(seq) = seq {
            ended += 1;
            jobs.tails.said(id, seq);
            tracing::info!(job = id, "ended a job whose time was over");
        }
    }
    Ok(ended)
}

/// Deletes messages past retention, and registrations that are good for nothing any more.
async fn tidy(jobs: &Jobs) -> Result<()> {
    let retention = jobs.retention;
    while broadcasts::forget(&jobs.db.worker, retention, BATCH).await? == BATCH.unsigned_abs() {}
    loop {
        let gone = db::transaction::<_, sqlx::Error, _>(&jobs.db.worker, move |tx| {
            Box::pin(async move { registrations::forget(tx, retention, BATCH).await })
        });
        if gone.await? < BATCH.unsigned_abs() {
            return Ok(());
        }
    }
}

//! Jobs as the engine sees them: no process claims them itself, but what lost workers held is taken back.

use super::failures::{Ended as End, Run as JobRun};
use super::store::jobs;
use super::store::work::{self, Running};
use super::types::Types;
use crate::traces::{Context, Tracer};
use crate::worker::{Again, Claim, Consumer, Ended, Holding, Lane, Run, Settled};
use serde_json::json;
use sqlx::postgres::{PgConnection, PgPool};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The consumer of jobs.
pub struct Jobs {
    pool: PgPool,
    types: Arc<Types>,
    tracer: Tracer,
}

/// How an attempt at a job ends by itself: its worker is lost. Any other end its worker writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Jobs {
    /// A consumer of the jobs of these types.
    pub fn new(pool: PgPool, types: Arc<Types>, tracer: Tracer) -> Self {
        Self { pool, types, tracer }
    }
}

impl Consumer for Jobs {
    type Outcome = Lost;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.types.refresh(&self.pool, revision).await?;
        Ok(())
    }

    fn lanes(&self) -> Vec<Lane> {
        Vec::new()
    }

    fn lane(&self, _id: i32) -> Option<Lane> {
        None
    }

    fn owns(&self, lane: i32) -> bool {
        self.types.by_id(lane).is_some()
    }

    fn all(&self) -> Vec<i32> {
        self.types.ids()
    }

    async fn load(&self, _claims: Vec<Claim>, _holding: &Holding) -> sqlx::Result<Vec<Run<Lost>>> {
        Ok(Vec::new())
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Lost>]) -> sqlx::Result<Settled> {
        let claims: Vec<Claim> = ended.iter().map(|end| end.claim.clone()).collect();
        let running = running(&mut *tx, &claims).await?;
        let mut settled = Settled::default();
        for claim in claims {
            let Some(Running { id, cancelled, request_id, trace, .. }) = running.get(&claim.lease) else {
                continue;
            };
            let job_type = self.types.by_id(claim.lane);
            let attempts = job_type.as_ref().map_or(1, |job_type| job_type.rules.attempts);
            let said = if *cancelled {
                json!({ "status": "CANCELED", "termination_type": "USER_DATA_FAILURE" })
            } else if claim.attempt < attempts {
                work::reopen(&mut *tx, *id).await?;
                let Claim { lane, rank, item, attempt, .. } = claim;
                settled.again.push(Again {
                    lane,
                    rank,
                    item,
                    attempt,
                    after: Duration::ZERO,
                    traceable: false,
                });
                json!({ "status": "REQUESTED", "percent_complete": 0 })
            } else {
                json!({ "status": "VBS_ERROR", "termination_type": "PROCESS_FAILURE" })
            };
            jobs::broadcast(&mut *tx, *id, &said).await?;
            let started_at = Some(claim.claimed_at);
            let end = said["termination_type"].as_str();
            if let Some(job_type) = &job_type {
                job_type.series.said(end);
            }
            let end = End {
                job: *id,
                kind: job_type.map(|job_type| job_type.name.clone()),
                attempt: Some(claim.attempt),
                end: end.map(str::to_owned),
                status: Some("its worker was lost".to_owned()),
                took: None,
                cancelled: *cancelled,
                request_id: request_id.clone(),
                trace: trace.as_deref().and_then(Context::of_stored),
                run: JobRun::of(claim.item, Some(claim.lease), started_at),
            };
            let tracer = self.tracer.clone();
            settled.lines.push(move || end.tell(&tracer));
            settled.written += 1;
        }
        Ok(settled)
    }

    fn weight(_outcome: &Lost) -> usize {
        0
    }

    fn refused(&self, _outcome: Option<&Lost>, _error: &sqlx::Error) -> Lost {
        Lost
    }

    fn panicked(&self, _message: &str) -> Lost {
        Lost
    }

    fn given_back(&self) -> Lost {
        // Jobs are their workers', which go on whatever becomes of this process.
        Lost
    }

    async fn lost(&self, tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Lost>>> {
        let running = running(tx, &claims).await?;
        let lost = claims.into_iter().filter(|claim| running.contains_key(&claim.lease));
        Ok(lost.map(|claim| Ended { claim, outcome: Some(Lost) }).collect())
    }

    async fn written(
        &self,
        _tx: &mut PgConnection,
        _ended: &[&Ended<Lost>],
    ) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
        // Its only end is the reclaim's, which nobody waits for.
        Ok(Vec::new())
    }
}

/// The jobs that still run under these claims, by lease.
async fn running(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<HashMap<Uuid, Running>> {
    let running = work::unfinished(tx, claims).await?;
    Ok(running.into_iter().map(|running| (running.lease, running)).collect())
}

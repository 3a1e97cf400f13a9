//! How a worker's call comes to its job: its lease is asked for and moved on, the job is locked, and started
//! if nobody had.

use super::once::{Once, first_answer, keep};
use super::state::{Jobs, finished, no_job};
use super::status::Change;
use crate::error::{Error, Result};
use crate::jobs::job_type::JobType;
use crate::jobs::store::idempotency::Key;
use crate::jobs::store::jobs::{self, Job};
use crate::jobs::store::work;
use crate::worker::store as engine;
use axum::http::HeaderMap;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use uuid::Uuid;

/// The lease that a worker's call carries, in `x-postrider-lease` or in the body. Clients that know of none
/// send none.
///
/// # Errors
/// 409 when it is none of ours.
pub(super) fn lease(headers: &HeaderMap, document: Option<&Value>) -> Result<Option<Uuid>> {
    let header = headers.get("x-postrider-lease").map(|value| value.to_str().unwrap_or_default().to_owned());
    let member = || match document?.get("lease")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    header.or_else(member).map(|text| text.trim().parse().map_err(|_| stale())).transpose()
}

/// Comes to a job that is not finished, for its worker.
///
/// # Errors
/// 404 when there is no such job; 409 when the lease is over or another's, or the job is finished.
pub(super) async fn enter(
    tx: &mut PgConnection,
    job_type: &JobType,
    id: i64,
    lease: Option<Uuid>,
) -> Result<Job> {
    beat(&mut *tx, job_type, id, lease).await?;
    let job = jobs::lock(&mut *tx, job_type.id, id).await?.ok_or_else(no_job)?;
    if job.completed_at.is_some() {
        return Err(finished());
    }
    if lease.is_some() && job.lease != lease {
        return Err(stale());
    }
    if job.started_at.is_some() {
        return Ok(job);
    }
    work::start(&mut *tx, id).await?;
    jobs::get(tx, job_type.id, id).await?.ok_or_else(no_job)
}

/// Moves the lease on: any call of the worker is a heartbeat. It is locked before the job, as the reclaim
/// does; one that the caller names must still exist.
///
/// # Errors
/// As [`enter`].
pub(super) async fn beat(
    tx: &mut PgConnection,
    job_type: &JobType,
    id: i64,
    lease: Option<Uuid>,
) -> Result<Job> {
    let job = jobs::get(&mut *tx, job_type.id, id).await?.ok_or_else(no_job)?;
    if let Some(current) = lease.or(job.lease) {
        let by = job_type.rules.lease;
        let alive = engine::extend(tx, job_type.id, job.item, current, by).await?.is_some();
        if lease.is_some() && !alive {
            return Err(if job.completed_at.is_some() { finished() } else { stale() });
        }
    }
    Ok(job)
}

/// Says something about a job for its worker; returns the number in the job's log.
///
/// # Errors
/// The database's.
pub(super) async fn say(tx: &mut PgConnection, job: &Job, change: Change) -> Result<i64> {
    let end = change.end_digest();
    let Change { kept, further } = change;
    let seq = jobs::broadcast_with(&mut *tx, job.id, &kept, further.as_deref()).await?;
    if let Some(end) = end {
        work::sign(tx, job.id, job.lease, &end).await?;
    }
    Ok(seq)
}

impl Jobs {
    /// Whether a call was refused that says again how its worker has ended the job: the answer was lost.
    pub(super) async fn was_said<T>(
        &self,
        refused: &Result<T>,
        job_type: &JobType,
        id: i64,
        lease: Option<Uuid>,
        end: Option<[u8; 32]>,
    ) -> Result<bool> {
        match (refused, end) {
            (Err(Error::Conflict(_)), Some(end)) => {
                Ok(work::has_ended(&self.db.api, job_type.id, id, lease, &end).await?)
            }
            _ => Ok(false),
        }
    }

    /// Does what a worker's call asks for, once for its key: `work` returns what is to be known here, and the answer.
    pub(super) async fn as_worker<T, F>(
        &self,
        job_type: &Arc<JobType>,
        id: i64,
        lease: Option<Uuid>,
        key: Option<Key>,
        work: F,
    ) -> Result<Once<T>>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(
                &'c mut PgConnection,
                Job,
            ) -> futures::future::BoxFuture<'c, Result<(T, Box<RawValue>)>>
            + Send
            + 'static,
    {
        let job_type = Arc::clone(job_type);
        let (done, claimed) = crate::db::transaction::<_, Error, _>(&self.db.api, move |tx| {
            Box::pin(async move {
                if let Some(answer) = first_answer(&mut *tx, key.as_ref()).await? {
                    return Ok((Once::Before(answer), true));
                }
                let job = enter(&mut *tx, &job_type, id, lease).await?;
                let claimed = job.lease.is_some();
                let (done, answer) = work(&mut *tx, job).await?;
                keep(tx, key.as_ref(), &answer).await?;
                Ok((Once::Now(done, answer), claimed))
            })
        })
        .await?;
        if !claimed {
            // Without a claim the time of a job runs from its worker's first call, which may be this one.
            self.deadlines.notify_one();
        }
        Ok(done)
    }
}

/// 409: whoever holds this lease works on nothing any more.
pub(super) fn stale() -> Error {
    Error::Conflict("this lease is over: the job was taken back, or has ended".to_owned())
}

//! Workers take jobs.

use super::Jobs;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Result};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::jobs::job_type::JobType;
use crate::jobs::roles;
use crate::jobs::store::work;
use crate::worker::store as engine;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// The longest that a claim waits for jobs.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// What other processes made ready is found by asking again this often.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How to claim.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Claiming {
    /// How long to wait for a job, such as `20s`; at most a minute. Absent: not at all.
    wait: Option<String>,
    /// At most this many jobs, 1 to 100; 1 if absent.
    max: Option<i32>,
}

/// A job that a worker has taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Claimed {
    /// Its number.
    id: i64,
    /// The person it is for.
    cardholder_id: i64,
    /// What its creator sent.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    /// To be sent with every call about the job, which then counts only while the job is the caller's.
    lease: String,
}

/// Takes jobs, waiting for some if there are none. Their time runs from here; a worker that is silent for the
/// type's `lease` is lost.
#[utoipa::path(
    post, path = "/{job_type}/claim", tag = "job workers", operation_id = "claim_jobs",
    params(("job_type" = String, Path, description = "The kind of jobs"), Claiming),
    responses((status = 200, description = "The jobs taken, possibly none", body = Vec<Claimed>), Problems),
)]
pub(super) async fn claim(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(name): Path<String>,
    Query(Claiming { wait, max }): Query<Claiming>,
) -> Result<Json<Vec<Claimed>>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_worker(&caller)?;
    let wait = wait.map_or(Ok(Duration::ZERO), |text| humantime::parse_duration(text.trim()));
    let wait = wait.map_err(|_| Error::BadRequest("`wait` must be a duration such as 20s".to_owned()))?;
    let max = max.unwrap_or(1);
    if !(1..=100).contains(&max) {
        return Err(Error::BadRequest("`max` must lie between 1 and 100".to_owned()));
    }
    let deadline = Instant::now() + wait.min(LONGEST_WAIT);
    let bell = jobs.wake.watch(job_type.id);
    loop {
        // Listening begins before looking, so that nothing slips in between.
        let rung = bell.notified();
        let claimed = claim_now(&jobs, &job_type, max, &caller.subject).await?;
        let now = Instant::now();
        if !claimed.is_empty() || now >= deadline || jobs.stopping.is_cancelled() {
            return Ok(Json(claimed));
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep_until(deadline.min(now + ASK_AGAIN)) => {}
            () = jobs.stopping.cancelled() => {}
        }
    }
}

/// Takes what there is. A client that hangs up in the middle is a worker that died: its lease runs out.
async fn claim_now(jobs: &Jobs, job_type: &JobType, max: i32, holder: &str) -> Result<Vec<Claimed>> {
    let (lane, lease, holder) = (job_type.id, job_type.rules.lease, holder.to_owned());
    let asked = Instant::now();
    let taken = db::transaction::<_, sqlx::Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            let claims = engine::claim_outside(&mut *tx, lane, max, &holder, lease, None).await?;
            if claims.is_empty() {
                return Ok(Vec::new());
            }
            let taken = work::take(&mut *tx, &claims).await?;
            // Cancelled before it could run, or started without a claim: its lease ends here.
            let idle = claims.iter().map(|claim| claim.lease);
            let idle: Vec<Uuid> =
                idle.filter(|lease| taken.iter().all(|taken| taken.lease != *lease)).collect();
            if !idle.is_empty() {
                engine::fence(tx, &idle, &[]).await?;
            }
            Ok(taken)
        })
    })
    .await?;
    if !taken.is_empty() {
        jobs.deadlines.notify_one();
    }
    // This process stood still: the jobs are, or soon will be, another's.
    if asked.elapsed() >= lease {
        return Ok(Vec::new());
    }
    let claimed = taken.into_iter().map(|taken| Claimed {
        id: taken.id,
        cardholder_id: taken.cardholder_id,
        data: taken.data.0,
        lease: taken.lease.to_string(),
    });
    Ok(claimed.collect())
}

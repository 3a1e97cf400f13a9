//! Workers take jobs.

use super::documented::JobTypeName;
use super::state::{Jobs, no_type};
use crate::auth::Authenticated;
use crate::error::{Error, Result};
use crate::http::duration::{self, DurationText};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::jobs::remote::Job;
use crate::jobs::roles;
use crate::traces::{Tracer, Tried};
use crate::worker::remote::Answer;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// The longest that a claim waits for jobs.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How to claim.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Claiming {
    /// How long to wait for a job, such as `20s`; at most a minute. Absent: not at all.
    #[param(inline, value_type = Option<DurationText>)]
    wait: Option<String>,
    /// At most this many jobs, 1 to 100; 1 if absent.
    #[param(minimum = 1, maximum = 100, default = 1)]
    max: Option<i32>,
}

/// A job that a worker has taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ClaimedJob)]
pub(super) struct Claimed {
    /// Its number.
    #[schema(example = 1)]
    id: i64,
    /// The person it is for.
    #[schema(example = 7)]
    cardholder_id: i64,
    /// What its creator sent.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    data: Box<RawValue>,
    /// To be sent with every call about the job, which then counts only while the job is the caller's.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    lease: String,
    /// The W3C trace context of this attempt, to be sent with what the worker asks of others; only if there is a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    traceparent: Option<String>,
}

/// Takes jobs, waiting for some if there are none. Their time runs from here; a worker that is silent for the
/// type's `lease` is lost.
#[utoipa::path(
    post, path = "/{job_type}/claim", tag = "job workers", operation_id = "claim_jobs",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), Claiming),
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
    let wait = wait.map_or(Some(Duration::ZERO), |text| duration::read(&text));
    let wait = wait.ok_or_else(|| Error::BadRequest("`wait` must be a duration such as 20s".to_owned()))?;
    let max = max.unwrap_or(1);
    if !(1..=100).contains(&max) {
        return Err(Error::BadRequest("`max` must lie between 1 and 100".to_owned()));
    }
    let wait = wait.min(LONGEST_WAIT);
    match jobs.waiting.claim(job_type.id, &caller.subject, max, wait).await {
        Answer::Handed(handed) => {
            jobs.deadlines.notify_one();
            Ok(Json(handed.keep().into_iter().map(|(_, job)| Claimed::of(job, &jobs.tracer)).collect()))
        }
        Answer::Nothing => Ok(Json(Vec::new())),
        Answer::Closed => Err(no_type()),
        Answer::Failed(error) => Err(error.into()),
    }
}

impl Claimed {
    fn of(job: Job, tracer: &Tracer) -> Self {
        let Job { id, cardholder_id, data, lease, item, trace } = job;
        let trace = tracer.attempt(trace.as_ref(), Tried { message: item, item, lease });
        let traceparent = trace.map(|trace| trace.to_string());
        Self { id, cardholder_id, data, lease: lease.to_string(), traceparent }
    }
}

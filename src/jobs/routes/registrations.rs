//! Register to follow a job. The guide asks for it with GET, its clients with POST.

use super::documented::JobTypeName;
use super::state::Jobs;
use crate::auth::{Authenticated, Caller};
use crate::error::Result;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::jobs::store::registrations;
use crate::jobs::{access_key, roles};
use axum::Json;
use axum::extract::State;
use serde::Serialize;

/// A registration.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Registered {
    /// 16 random bytes in base64: to be sent in `cardsavr-messaging-access-key`. It is nowhere else.
    #[schema(example = "Jx0n3p0wq8yq1zq9f2mG6A==")]
    access_key: String,
}

/// Registers to follow a job. Every call returns another key, which reads what is said from now on; of a
/// finished job, its final message.
#[utoipa::path(
    post, path = "/messages/{job_type}/{job_id}/broadcasts/registrations", tag = "job channels",
    operation_id = "register_for_broadcasts",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    responses((status = 200, description = "The key", body = Registered), Problems),
)]
pub(super) async fn register(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Json<Registered>> {
    made(&jobs, &caller, &name, id).await
}

/// As with POST.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/broadcasts/registrations", tag = "job channels",
    operation_id = "register_for_broadcasts_by_get",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    responses((status = 200, description = "The key", body = Registered), Problems),
)]
pub(super) async fn register_by_get(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Json<Registered>> {
    made(&jobs, &caller, &name, id).await
}

async fn made(jobs: &Jobs, caller: &Caller, name: &str, id: i64) -> Result<Json<Registered>> {
    let job_type = jobs.job_type(name)?;
    roles::require_agent(caller)?;
    let job = jobs.visible(&job_type, id, caller).await?;
    let (access_key, hash) = access_key::make()?;
    registrations::register(&jobs.db.api, job.id, &caller.subject, &hash).await?;
    Ok(Json(Registered { access_key }))
}

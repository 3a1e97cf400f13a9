//! Why a job is not running.

use super::documented::JobTypeName;
use super::state::{Jobs, no_job};
use crate::auth::Authenticated;
use crate::error::Result;
use crate::http::extract::Path;
use crate::http::openapi::Problems;
use crate::jobs::roles;
use crate::jobs::why;
use crate::worker::why::Why;
use axum::Json;
use axum::extract::State;

/// Says why a job is not running: every reason, with what to do about it; none once it has ended. For who may read the
/// job. Whose worker has it, only those are told who may look at any job.
#[utoipa::path(
    get, path = "/{job_type}/{job_id}/why", tag = "jobs", operation_id = "why_job",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    responses((status = 200, description = "Its status, and the reasons", body = Why), Problems),
)]
pub(super) async fn why(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Json<Why>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_any(&caller)?;
    jobs.visible(&job_type, id, &caller).await?;
    let named = roles::sees_any(&caller);
    let said = why::why(&jobs.db.api, job_type.id, &job_type.name, id, named).await?;
    Ok(Json(said.ok_or_else(no_job)?))
}

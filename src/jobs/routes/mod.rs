//! The job channels over HTTP, at the root of the API.
//!
//! The order of checks: 404 type, 401 token, 403 role, 404 job (not there, or not the caller's), then the
//! body, then what the job's state refuses (409, 410).

mod broadcasts;
mod cardholders;
mod claim;
mod create;
mod edge;
mod entry;
mod job;
mod once;
mod registrations;
mod requests;
mod responses;
mod status;
mod stream;
mod view;

use super::follow::Tails;
use super::job_type::JobType;
use super::remote::RemoteJobs;
use super::roles;
use super::store::jobs::{self, Job};
use super::types::Types;
use crate::auth::{Caller, Verifier};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::http::body::BodyLimits;
use crate::seal::Sealer;
use crate::worker::Wake;
use crate::worker::remote::WaitingRoom;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

/// The addresses that may wait, as the router has them: see [`crate::http::limits::InFlight`].
pub const LONG_POLLS: [&str; 6] = [
    "/{job_type}/claim",
    "/{job_type}/claim/",
    "/messages/{job_type}/{job_id}/broadcasts",
    "/messages/{job_type}/{job_id}/broadcasts/",
    "/messages/{job_type}/{job_id}/broadcasts/stream",
    "/messages/{job_type}/{job_id}/broadcasts/stream/",
];

/// What the routes of the job channels work with.
#[derive(Clone)]
pub struct Jobs {
    /// The database.
    pub db: Database,
    /// The kinds of jobs.
    pub types: Arc<Types>,
    /// Who waits for what is said about jobs.
    pub tails: Arc<Tails>,
    /// Seals answers; absent when no key is configured.
    pub sealer: Option<Arc<Sealer>>,
    /// The bell of the engine.
    pub wake: Arc<Wake>,
    /// Where workers wait for jobs.
    pub waiting: WaitingRoom<RemoteJobs>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The limits of a body.
    pub limits: BodyLimits,
    /// How long a job may take, where neither it nor its type says.
    pub job_timeout: Duration,
    /// How long a question waits, where neither its job nor the type says.
    pub credential_timeout: Duration,
    /// How long a broadcast can be read.
    pub retention: Duration,
    /// Whether a stream takes its access key in the query.
    pub query_keys: bool,
    /// How long a finished job is kept.
    pub job_retention: Duration,
    /// Rings when a deadline was set.
    pub deadlines: Arc<Notify>,
    /// Cancelled when the server stops: long polls and streams end at once.
    pub stopping: CancellationToken,
}

impl FromRef<Jobs> for Arc<Verifier> {
    fn from_ref(jobs: &Jobs) -> Self {
        Arc::clone(&jobs.verifier)
    }
}

/// How the reference groups the routes.
#[derive(utoipa::OpenApi)]
#[openapi(modifiers(&Keys), tags(
    (name = "jobs", description = "Create, list, read and cancel jobs"),
    (name = "job channels", description = "Follow a job, and answer what it asks"),
    (name = "job workers", description = "Take jobs, say how far they are, ask their owners"),
))]
struct Groups;

/// How one calls these routes beside the ways of all others.
struct Keys;

impl utoipa::Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let session =
            ApiKeyValue::with_description(edge::SESSION, "The token, as clients in the field send it");
        let key =
            ApiKeyValue::with_description("access_key", "The access key of a registration, for a stream");
        let components = api.components.get_or_insert_default();
        components.add_security_scheme(edge::SESSION, SecurityScheme::ApiKey(ApiKey::Header(session)));
        components.add_security_scheme("access_key", SecurityScheme::ApiKey(ApiKey::Query(key)));
    }
}

/// All routes of the job channels.
pub fn router(jobs: Jobs) -> OpenApiRouter {
    let all = [
        routes!(create::create, create::list),
        routes!(job::get, job::put),
        routes!(claim::claim),
        routes!(registrations::register, registrations::register_by_get),
        routes!(broadcasts::read, broadcasts::say),
        routes!(stream::by_query),
        routes!(requests::ask, requests::read),
        routes!(responses::answer, responses::pick_up),
        routes!(cardholders::of_job),
        routes!(cardholders::of_cardholder),
    ];
    let mut api = all.into_iter().fold(OpenApiRouter::with_openapi(Groups::openapi()), with_slash);
    describe_trace(api.get_openapi_mut());
    api.layer(from_fn_with_state(Arc::clone(&jobs.types), edge::around)).with_state(jobs)
}

/// Adds to each operation the header that is read around all of them.
fn describe_trace(api: &mut utoipa::openapi::OpenApi) {
    let words = "JSON with `key`: a word that stands in every line of the log about the request";
    let trace = ParameterBuilder::new()
        .name(edge::TRACE)
        .parameter_in(ParameterIn::Header)
        .description(Some(words))
        .build();
    let operations = api.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
    });
    for operation in operations {
        operation.parameters.get_or_insert_default().push(trace.clone().into());
    }
}

/// Adds routes under their address, and under the same with a slash at its end, which is not described. A method
/// they do not answer to is refused here, behind the middleware: where there is no such type, there is nothing.
fn with_slash(
    api: OpenApiRouter<Jobs>,
    (schemas, paths, methods): UtoipaMethodRouter<Jobs>,
) -> OpenApiRouter<Jobs> {
    let addresses: Vec<String> = paths.paths.keys().map(|path| format!("{path}/")).collect();
    let methods = methods.fallback(|| async { Error::MethodNotAllowed });
    let api = api.routes((schemas, paths, methods.clone()));
    addresses.into_iter().fold(api, |api, path| api.route(&path, methods.clone()))
}

impl Jobs {
    /// The type of this name.
    fn job_type(&self, name: &str) -> Result<Arc<JobType>> {
        self.types.by_name(name).ok_or_else(no_type)
    }

    /// Counts what was said about a job, with how it ended it, and tells those who wait for it.
    fn said(&self, job_type: &JobType, id: i64, seq: i64, end: Option<&str>) {
        job_type.series.said(end);
        self.tails.said(id, seq);
    }

    /// The job, for a caller who may look at it: its owner, or who may look at any.
    async fn visible(&self, job_type: &JobType, id: i64, caller: &Caller) -> Result<Job> {
        let job = jobs::get(&self.db.api, job_type.id, id).await?.ok_or_else(no_job)?;
        if roles::sees_any(caller) || roles::owns(caller, &job.owner) { Ok(job) } else { Err(no_job()) }
    }

    /// The job, for the one caller who created it.
    async fn own(&self, job_type: &JobType, id: i64, caller: &Caller) -> Result<Job> {
        let job = jobs::get(&self.db.api, job_type.id, id).await?.ok_or_else(no_job)?;
        if roles::owns(caller, &job.owner) { Ok(job) } else { Err(no_job()) }
    }
}

/// What seals the answers to questions.
fn sealer(jobs: &Jobs) -> Result<Arc<Sealer>> {
    jobs.sealer.clone().ok_or_else(|| no_key("an answer"))
}

/// 503: there is no key to seal this with.
fn no_key(what: &str) -> Error {
    let words = format!("this server cannot keep {what}: set POSTRIDER_SECRET_KEY");
    Error::Unavailable(words, Duration::from_mins(1))
}

/// 404: not there, or not for this caller to see.
fn no_job() -> Error {
    Error::NotFound("there is no such job".to_owned())
}

/// 409: a finished job never changes again.
fn finished() -> Error {
    Error::Conflict("this job is finished".to_owned())
}

fn no_type() -> Error {
    Error::NotFound("there is no such kind of jobs".to_owned())
}

//! What all routes of the job channels work with, the job that a caller means, and why there is none.

use crate::auth::{Caller, Verifier};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::http::body::BodyLimits;
use crate::jobs::follow::Tails;
use crate::jobs::job_type::JobType;
use crate::jobs::remote::RemoteJobs;
use crate::jobs::roles;
use crate::jobs::sdk::Sdk;
use crate::jobs::store::jobs::{self, Job};
use crate::jobs::types::Types;
use crate::seal::{Sealer, no_key};
use crate::traces::Tracer;
use crate::worker::Wake;
use crate::worker::remote::WaitingRoom;
use axum::extract::FromRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

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
    /// Who logs in with the vendor's client; absent, nobody.
    pub sdk: Option<Arc<Sdk>>,
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
    /// Makes the spans of jobs.
    pub tracer: Tracer,
}

impl FromRef<Jobs> for Arc<Verifier> {
    fn from_ref(jobs: &Jobs) -> Self {
        Arc::clone(&jobs.verifier)
    }
}

impl Jobs {
    /// The type of this name.
    pub(super) fn job_type(&self, name: &str) -> Result<Arc<JobType>> {
        self.types.by_name(name).ok_or_else(no_type)
    }

    /// Counts what was said about a job, with how it ended it, and tells those who wait for it.
    pub(super) fn said(&self, job_type: &JobType, id: i64, seq: i64, end: Option<&str>) {
        job_type.series.said(end);
        self.tails.said(id, seq);
    }

    /// The job, for a caller who may look at it: its owner, or who may look at any.
    pub(super) async fn visible(&self, job_type: &JobType, id: i64, caller: &Caller) -> Result<Job> {
        let job = jobs::get(&self.db.api, job_type.id, id).await?.ok_or_else(no_job)?;
        if roles::sees_any(caller) || roles::owns(caller, &job.owner) { Ok(job) } else { Err(no_job()) }
    }

    /// The job, for the one caller who created it.
    pub(super) async fn own(&self, job_type: &JobType, id: i64, caller: &Caller) -> Result<Job> {
        let job = jobs::get(&self.db.api, job_type.id, id).await?.ok_or_else(no_job)?;
        if roles::owns(caller, &job.owner) { Ok(job) } else { Err(no_job()) }
    }
}

/// What seals the answers to questions.
pub(super) fn sealer(jobs: &Jobs) -> Result<Arc<Sealer>> {
    jobs.sealer.clone().ok_or_else(|| no_key("an answer"))
}

/// 404: not there, or not for this caller to see.
pub(super) fn no_job() -> Error {
    Error::NotFound("there is no such job".to_owned())
}

/// 409: a finished job never changes again.
pub(super) fn finished() -> Error {
    Error::Conflict("this job is finished".to_owned())
}

pub(super) fn no_type() -> Error {
    Error::NotFound("there is no such kind of jobs".to_owned())
}

//! The published shapes of what is told about jobs: what `/openapi.json` says of them, with each member's meaning, range
//! and default. What is not described is the job type's own: it is stored, or passed on, as it stands.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// One job to be created, or an array of 1 to 100.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum NewJobs {
    /// One.
    One(NewJob),
    /// 1 to 100.
    Many(Vec<NewJob>),
}

/// A job to be created. Further members are what its worker needs to know, as those of `data` are.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewJob {
    /// The person whom it is for: a whole number, as a number or as a text.
    pub cardholder_id: CardholderId,
    /// How long its worker may take, in seconds. Absent, as the job type says.
    #[schema(minimum = 1, maximum = 2592000)]
    pub job_timeout: Option<u64>,
    /// How long a question waits for its answer, in seconds. Absent, as the job type says.
    #[schema(minimum = 1, maximum = 2592000)]
    pub credential_timeout: Option<u64>,
    /// What its worker needs to know. It is sealed.
    pub data: Option<HashMap<String, Value>>,
    /// What its worker needs to know, too.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

/// The number of a person.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum CardholderId {
    /// As a number.
    Number(u64),
    /// As a text.
    Text(String),
}

/// What is said of a job. With `termination_type` it ends. Further members are passed on as they stand.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobChange {
    /// How it stands: a word of the worker's; of its creator, `CANCEL_REQUESTED` or `REQUESTED`.
    #[schema(min_length = 1, max_length = 100, example = "REQUESTED")]
    pub status: Option<String>,
    /// About how much is done.
    #[schema(minimum = 0, maximum = 100)]
    pub percent_complete: Option<f64>,
    /// What the worker says in words.
    #[schema(min_length = 1, max_length = 10000, example = "Signing in")]
    pub status_message: Option<String>,
    /// How it ended.
    pub termination_type: Option<JobEnd>,
    /// The worker's lease, which may be in the header `x-postrider-lease` too.
    pub lease: Option<Uuid>,
    /// Passed on.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

/// How a worker ends a job.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobEnd {
    /// It is done.
    Billable,
    /// What the person told does not do.
    UserDataFailure,
    /// The site did not do what it should.
    SiteInteractionFailure,
    /// The worker failed.
    ProcessFailure,
}

/// A question to the creator of a job. Further members are what the creator is to see.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CredentialRequest {
    /// What is asked for: `tfa_request`, `credential_request` or a word of yours.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 100, example = "tfa_request")]
    pub kind: String,
    /// The worker's lease, which may be in the header `x-postrider-lease` too.
    pub lease: Option<Uuid>,
    /// What the creator is to see.
    #[serde(flatten)]
    pub further: HashMap<String, Value>,
}

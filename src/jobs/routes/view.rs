//! A job and its question, as clients see them.

use super::documented::Question;
use crate::http::json_text::{is, members, object, raw};
use crate::jobs::message::Message;
use crate::jobs::store::envelopes::Pending;
use crate::jobs::store::jobs::Job;
use crate::traces::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

/// A job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Job)]
pub(super) struct View {
    /// Its number.
    #[schema(example = 1)]
    id: i64,
    /// The person it is for.
    #[schema(example = 7)]
    cardholder_id: i64,
    /// The account of which its creator keeps the credentials here, if it named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    account_id: Option<i64>,
    /// The newest status: REQUESTED at first, then what the worker says.
    #[schema(example = "REQUESTED")]
    status: String,
    /// About how much is done.
    #[schema(minimum = 0, maximum = 100, example = 0)]
    percent_complete: i16,
    /// What the worker last said in words.
    #[schema(example = "Signing in")]
    status_message: Option<String>,
    /// How it ended: `BILLABLE`, `USER_DATA_FAILURE`, `SITE_INTERACTION_FAILURE`, `PROCESS_FAILURE` or
    /// `NEVER_STARTED`; null until then.
    #[schema(example = "BILLABLE")]
    termination_type: Option<String>,
    /// When it was created.
    created_on: DateTime<Utc>,
    /// When a worker took it.
    started_on: Option<DateTime<Utc>>,
    /// When it ended.
    completed_on: Option<DateTime<Utc>>,
    /// How long a question waits for its answer, in seconds.
    #[schema(example = 240)]
    credential_timeout: i64,
    /// Whether its worker is to end it soon.
    cancel_requested: bool,
    /// The trace that it is a part of, which the log names when it fails; only if the request that created it brought one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: Option<String>,
    /// The key to its broadcasts; only in the answer that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Jx0n3p0wq8yq1zq9f2mG6A==")]
    pub(super) access_key: Option<String>,
    /// What it asks its creator; only with `x-cardsavr-hydration: ["credential_requests"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Question>>)]
    pub(super) credential_requests: Option<Vec<Box<RawValue>>>,
    /// The account, with what its creator handed over for the worker that holds the lease alone; for others only with
    /// `x-cardsavr-hydration: ["account"]`, without that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<Account>,
    /// The person; only with `x-cardsavr-hydration: ["cardholder"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cardholder: Option<Cardholder>,
}

/// An account of a job. What is secret of it only the job's worker reads.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobAccount)]
pub(super) struct Account {
    /// Its number.
    #[schema(example = 1)]
    id: i64,
    /// The person whose it is.
    #[schema(example = 7)]
    cardholder_id: i64,
    /// The merchant site that it is an account of, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    merchant_site_id: Option<i64>,
    /// The credentials, for the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>, example = json!({"username": "good_email", "password": "secret"}))]
    pub(super) account_link: Option<Box<RawValue>>,
}

impl Account {
    /// The account of a job, without what is secret; none if there is none.
    pub(super) fn of(job: &Job) -> Option<Self> {
        let Job { id, cardholder_id, merchant_site_id, .. } = *job;
        job.has_account.then_some(Self { id, cardholder_id, merchant_site_id, account_link: None })
    }
}

/// The person whom a job is for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Cardholder {
    /// Its number.
    #[schema(example = 7)]
    id: i64,
    /// What the job's creator calls it, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    cuid: Option<String>,
}

impl Cardholder {
    /// The person whom this job is for.
    pub(super) fn of(job: &Job) -> Self {
        Self { id: job.cardholder_id, cuid: job.cuid.clone() }
    }
}

/// What was created: a job, or of an array an array.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "it only describes")]
pub(super) enum CreatedJobs {
    /// One.
    One(View),
    /// In the order sent.
    Many(Vec<View>),
}

impl From<Job> for View {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            cardholder_id: job.cardholder_id,
            account_id: job.has_account.then_some(job.id),
            status: job.status,
            percent_complete: job.percent_complete,
            status_message: job.status_message,
            termination_type: job.termination_type,
            created_on: job.created_at,
            started_on: job.started_at,
            completed_on: job.completed_at,
            credential_timeout: job.credential_timeout,
            cancel_requested: job.cancelled,
            trace_id: job.trace.as_deref().and_then(Context::of_stored).map(|trace| trace.trace_id()),
            access_key: None,
            credential_requests: None,
            account: None,
            cardholder: None,
        }
    }
}

/// A question: its type, job and envelope, and what the worker sent with it.
pub(super) fn request(pending: &Pending) -> Box<RawValue> {
    let ours = [
        (raw("type"), raw(&pending.kind)),
        (raw("job_id"), raw(&pending.job_id)),
        (raw("envelope_id"), raw(&pending.id)),
    ];
    let sent = members(&pending.content).unwrap_or_default().into_iter();
    let sent = sent.filter(|(key, _)| !["type", "job_id", "envelope_id"].iter().any(|ours| is(key, ours)));
    object(ours.iter().map(|(key, value)| (&**key, &**value)).chain(sent))
}

/// Questions first, then statuses, as one array.
pub(super) fn together(requests: &[Pending], messages: Vec<Message>) -> Vec<Box<RawValue>> {
    let requests = requests.iter().map(request);
    let statuses = messages.into_iter().filter_map(|message| serde_json::value::to_raw_value(&message).ok());
    requests.chain(statuses).collect()
}

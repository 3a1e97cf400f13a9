//! One job: read it, have it cancelled, say how far it is.

use super::account;
use super::documented::{JobChange, JobTypeName};
use super::edge::member;
use super::entry::{beat, lease, say};
use super::once::{self, Once, first_answer, keep};
use super::state::{Jobs, finished, no_job};
use super::status::Change;
use super::view::{self, Account, Cardholder, View};
use crate::auth::{Authenticated, Caller};
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::idempotency::IdempotencyKey;
use crate::http::json_text::{members, object, raw};
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::failures::{Ended, Run};
use crate::jobs::job_type::JobType;
use crate::jobs::roles;
use crate::jobs::store::envelopes;
use crate::jobs::store::idempotency::Key;
use crate::jobs::store::jobs::{self, Job};
use crate::jobs::store::safes;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Reads a job. A worker's call moves its lease on.
#[utoipa::path(
    get, path = "/{job_type}/{job_id}", tag = "jobs", operation_id = "get_job",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("x-postrider-lease" = Option<String>, Header, description = "A worker's lease", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a"),
        ("x-cardsavr-hydration" = Option<String>, Header, description = "A JSON array of what is wanted too: `credential_requests` (what it asks its creator), `account`, `cardholder`", example = "[\"credential_requests\"]")),
    responses(
        (status = 200, description = "The job", body = View),
        (status = 409, description = "The lease is over", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn get(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Result<Json<View>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_any(&caller)?;
    let job = jobs.visible(&job_type, id, &caller).await?;
    let mut account = None;
    if let Some(lease) = lease(&headers, None)?.filter(|_| roles::is_worker(&caller)) {
        let job_type = Arc::clone(&job_type);
        let (job, content) = db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
            Box::pin(async move {
                let job = beat(&mut *tx, &job_type, id, Some(lease)).await?;
                let holds = job.has_account && job.lease == Some(lease);
                let content = if holds { safes::content(tx, id).await? } else { None };
                Ok((job, content))
            })
        })
        .await?;
        account = account::with_content(&jobs, &job, content.as_ref())?;
    }
    let view = hydrate(&jobs, &caller, vec![job], &Hydration::of(&headers)).await?;
    let mut view = view.into_iter().next().ok_or_else(no_job)?;
    view.account = account.or(view.account);
    Ok(Json(view))
}

/// What a request asks for beside the job itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hydration {
    requests: bool,
    account: bool,
    cardholder: bool,
}

impl Hydration {
    /// What these headers ask for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let wanted = headers.get("x-cardsavr-hydration");
        let wanted = wanted.and_then(|value| serde_json::from_slice(value.as_bytes()).ok());
        let wanted: Vec<Value> = wanted.unwrap_or_default();
        let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
        Self {
            requests: wants("credential_requests"),
            account: wants("account"),
            cardholder: wants("cardholder"),
        }
    }
}

/// Jobs as a caller sees them: what they ask, their creator alone.
pub(super) async fn hydrate(
    jobs: &Jobs,
    caller: &Caller,
    found: Vec<Job>,
    wanted: &Hydration,
) -> Result<Vec<View>> {
    let asking = found.iter().filter(|job| wanted.requests && job.asks && roles::owns(caller, &job.owner));
    let mut pending = asked(jobs, asking.map(|job| job.id).collect()).await?;
    let views = found.into_iter().map(|job| {
        let asked = wanted.requests.then(|| pending.remove(&job.id).into_iter().collect());
        let account = wanted.account.then(|| Account::of(&job)).flatten();
        let cardholder = wanted.cardholder.then(|| Cardholder::of(&job));
        let mut view = View::from(job);
        (view.credential_requests, view.account, view.cardholder) = (asked, account, cardholder);
        view
    });
    Ok(views.collect())
}

/// What these jobs ask, each one thing.
pub(super) async fn asked(jobs: &Jobs, ids: Vec<i64>) -> Result<HashMap<i64, Box<RawValue>>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let pending = envelopes::pending(&jobs.db.api, &ids).await?;
    Ok(pending.iter().map(|pending| (pending.job_id, view::request(pending))).collect())
}

/// Hands the credentials of `account` over to its worker, with `x-cardsavr-envelope-id` as the answer to what it asks;
/// has a job cancelled (`status`: `CANCEL_REQUESTED`), takes that back (`REQUESTED`), or, for a worker, says
/// how far it is. With `termination_type` it ends.
#[utoipa::path(
    put, path = "/{job_type}/{job_id}", tag = "jobs", operation_id = "update_job",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, known for a day: the same key with the same body of the same caller is answered as the first time, and nothing happens twice"),
        ("x-cardsavr-envelope-id" = Option<Uuid>, Header, description = "The question that the credentials answer", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a"),
        ("x-postrider-lease" = Option<String>, Header, description = "A worker's lease; it may be the body's `lease` too", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a"),
        ("x-cardsavr-hydration" = Option<String>, Header, description = "A JSON array of what is wanted too: `credential_requests` (what it asks its creator), `account`, `cardholder`", example = "[\"credential_requests\"]")),
    request_body(content = JobChange, content_type = "application/json",
        description = "`status`, `percent_complete`, `status_message`, `termination_type`; further members are passed on"),
    responses(
        (status = 410, description = "The time of the question that the credentials are to answer is over", body = Problem, content_type = "application/problem+json"),
        (status = 200, description = "The job as it is now; also when a worker says its end again", body = View),
        (status = 409, description = "It is finished otherwise, the lease is over, or the idempotency key was used for something else", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn put(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Box<RawValue>>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_any(&caller)?;
    let found = jobs.visible(&job_type, id, &caller).await?;
    let (account, cardholder) = (Account::of(&found), Cardholder::of(&found));
    let Job { owner, cancelled, item, lease: claim, started_at, .. } = found;
    let document = body::read_json(&headers, body, &jobs.limits).await?;
    if let Some(link) = account::of_job(&document.raw, &headers)? {
        if !roles::owns(&caller, &owner) {
            return Err(Error::Forbidden(
                "only who created a job hands an account over to its worker".to_owned(),
            ));
        }
        let job = account::hand_over(&jobs, &job_type, id, &headers, link, account::Missing::IsMade).await?;
        let view = hydrate(&jobs, &caller, vec![job], &Hydration::of(&headers)).await?;
        return Ok(Json(raw(&view.into_iter().next())));
    }
    let lease = lease(&headers, Some(&document.value()))?;
    let key = once::key(&headers, &caller, &job_type, ("update", id), &document.raw)?;
    let change = Change::read(&document.raw)?;
    let done = match change.status() {
        Some("CANCEL_REQUESTED") => ask_to_cancel(&jobs, &job_type, id, key).await?,
        _ if roles::is_worker(&caller) => update(&jobs, &job_type, id, lease, key, change).await?,
        Some("REQUESTED") if change.is_a_status() => take_back(&jobs, &job_type, id, key).await?,
        _ => return Err(Error::Forbidden("an agent may only put CANCEL_REQUESTED or REQUESTED".to_owned())),
    };
    let answer = match done {
        Once::Now((job, seq), answer) => {
            if let Some(seq) = seq {
                jobs.said(&job_type, id, seq, job.termination_type.as_deref());
                let run = Run::of(item, claim, started_at);
                Ended { cancelled, run, ..Ended::of(&job_type.name, &job) }.tell(&jobs.tracer);
            }
            if job.cancelled {
                jobs.deadlines.notify_one();
            }
            answer
        }
        Once::Before(answer) => answer,
    };
    let wanted = Hydration::of(&headers);
    let mut more = Vec::new();
    if wanted.requests {
        // What it asks is no part of the answer that is kept for its idempotency key: it is as it is now.
        let mine = if roles::owns(&caller, &owner) { vec![id] } else { Vec::new() };
        let asked: Vec<Box<RawValue>> = asked(&jobs, mine).await?.into_values().collect();
        more.push((raw("credential_requests"), raw(&asked)));
    }
    if let Some(account) = account.filter(|_| wanted.account) {
        more.push((raw("account"), raw(&account)));
    }
    if wanted.cardholder {
        more.push((raw("cardholder"), raw(&cardholder)));
    }
    if more.is_empty() {
        return Ok(Json(answer));
    }
    let more = more.iter().map(|(name, value)| (&**name, &**value));
    Ok(Json(object(members(&answer).unwrap_or_default().into_iter().chain(more))))
}

/// What a change leaves: the job, and the number of its broadcast if there was one.
type Changed = (Job, Option<i64>);

/// A change with its answer.
fn answered(job: Job, seq: Option<i64>) -> (Changed, Box<RawValue>) {
    let answer = raw(&View::from(job.clone()));
    ((job, seq), answer)
}

async fn update(
    jobs: &Jobs,
    job_type: &Arc<JobType>,
    id: i64,
    lease: Option<Uuid>,
    key: Option<Key>,
    change: Change,
) -> Result<Once<Changed>> {
    if change.is_empty() {
        return Err(member("status", "required", "must say something"));
    }
    let end = change.end_digest();
    let updated = jobs
        .as_worker(job_type, id, lease, key, move |tx, job| {
            Box::pin(async move {
                let seq = say(&mut *tx, &job, change).await?;
                Ok(answered(again(tx, &job).await?, Some(seq)))
            })
        })
        .await;
    if jobs.was_said(&updated, job_type, id, lease, end).await? {
        let job = jobs::get(&jobs.db.api, job_type.id, id).await?.ok_or_else(no_job)?;
        return Ok(Once::Before(answered(job, None).1));
    }
    updated
}

/// One that nobody has taken is cancelled at once; the worker of a running one has its time to end it.
async fn ask_to_cancel(jobs: &Jobs, job_type: &JobType, id: i64, key: Option<Key>) -> Result<Once<Changed>> {
    let (type_id, grace) = (job_type.id, job_type.rules.grace);
    unfinished(jobs, type_id, id, key, move |tx, job| {
        Box::pin(async move {
            let said = match (job.started_at, job.cancelled) {
                (None, _) => json!({ "status": "CANCELED", "termination_type": "NEVER_STARTED" }),
                (Some(_), true) => return Ok((job, None)),
                (Some(_), false) => {
                    jobs::cancel_within(&mut *tx, job.id, grace).await?;
                    json!({ "status": "CANCEL_REQUESTED" })
                }
            };
            let seq = jobs::broadcast(&mut *tx, job.id, &said).await?;
            Ok((again(tx, &job).await?, Some(seq)))
        })
    })
    .await
}

/// Withdraws a request to cancel. One that nobody has taken is REQUESTED anyway.
async fn take_back(jobs: &Jobs, job_type: &JobType, id: i64, key: Option<Key>) -> Result<Once<Changed>> {
    unfinished(jobs, job_type.id, id, key, move |tx, job| {
        Box::pin(async move {
            if job.started_at.is_none() {
                return Ok((job, None));
            }
            if !job.cancelled {
                return Err(Error::Conflict("this job runs already".to_owned()));
            }
            jobs::do_not_cancel(&mut *tx, job.id).await?;
            let seq = jobs::broadcast(&mut *tx, job.id, &json!({ "status": "REQUESTED" })).await?;
            Ok((again(tx, &job).await?, Some(seq)))
        })
    })
    .await
}

/// Does something with a job that is locked and not finished.
async fn unfinished<F>(jobs: &Jobs, type_id: i32, id: i64, key: Option<Key>, work: F) -> Result<Once<Changed>>
where
    F: for<'c> FnOnce(&'c mut PgConnection, Job) -> futures::future::BoxFuture<'c, Result<Changed>>
        + Send
        + 'static,
{
    db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            if let Some(answer) = first_answer(&mut *tx, key.as_ref()).await? {
                return Ok(Once::Before(answer));
            }
            let job = jobs::lock(&mut *tx, type_id, id).await?.ok_or_else(no_job)?;
            if job.completed_at.is_some() {
                return Err(finished());
            }
            let (job, seq) = work(&mut *tx, job).await?;
            let (changed, answer) = answered(job, seq);
            keep(tx, key.as_ref(), &answer).await?;
            Ok(Once::Now(changed, answer))
        })
    })
    .await
}

async fn again(tx: &mut PgConnection, job: &Job) -> Result<Job> {
    jobs::get(tx, job.type_id, job.id).await?.ok_or_else(no_job)
}

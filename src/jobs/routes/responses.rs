//! The answer to what a job asks: one, from the client that created the job, read once by its worker.

use super::documented::JobTypeName;
use super::edge::member;
use super::entry::{enter, lease};
use super::state::{Jobs, finished, no_job, sealer};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::store::envelopes::{self, Asked, Standing};
use crate::jobs::store::jobs::{self, Job};
use crate::jobs::store::safes;
use crate::jobs::{envelope, roles, safe};
use crate::seal::Sealed;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// The longest answer, in characters.
const LONGEST: usize = 10_000;

/// An answer.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Answering {
    /// The question's guid.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    envelope_id: String,
    /// `tfa_response`, `credential_response`, `tfa_request`, `credential_request`, or absent.
    #[serde(rename = "type")]
    #[schema(example = "tfa_response")]
    kind: Option<String>,
    /// The code, or that credentials were submitted.
    #[schema(min_length = 1, max_length = 10000, example = "123456")]
    message: String,
}

/// An answer that was taken. What it said is not repeated.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Submitted {
    #[serde(rename = "type")]
    #[schema(example = "credential_response")]
    kind: &'static str,
    /// The job.
    #[schema(example = 1)]
    job_id: i64,
    /// The question's guid.
    #[schema(format = Uuid, example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    envelope_id: String,
    #[schema(example = "submitted")]
    message: &'static str,
}

/// Answers what the job asks. Of several answers to one question the first counts.
#[utoipa::path(
    post, path = "/messages/{job_type}/{job_id}/credential_responses", tag = "job channels", operation_id = "answer",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    request_body = Answering,
    responses(
        (status = 200, description = "It was taken", body = Submitted),
        (status = 409, description = "The question was answered already", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The question's time is over", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn answer(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Submitted>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_agent(&caller)?;
    jobs.own(&job_type, id, &caller).await?;
    let Answering { envelope_id, kind, message } = body::read_json_as(&headers, body, &jobs.limits).await?;
    let message = SecretString::from(message);
    if !(1..=LONGEST).contains(&message.expose_secret().chars().count()) {
        return Err(member("message", "length", &format!("must be a text of 1 to {LONGEST} characters")));
    }
    let envelope = Uuid::try_parse(&envelope_id).map_err(|_| no_envelope())?;
    let sealed =
        sealer(&jobs)?.seal(message.expose_secret(), envelope.as_bytes()).map_err(Error::internal)?;
    let type_id = job_type.id;
    let (seq, took) = db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            let job = jobs::lock(&mut *tx, type_id, id).await?.ok_or_else(no_job)?;
            let asked = open_question(&mut *tx, &job, envelope, kind.as_deref()).await?;
            keep_answer(tx, id, envelope, &asked.kind, &sealed).await
        })
    })
    .await?;
    jobs.said(&job_type, id, seq, None);
    job_type.series.answer(took);
    Ok(Json(Submitted { kind: "credential_response", job_id: id, envelope_id, message: "submitted" }))
}

/// The question of a job that is locked, if it can be answered, by an answer of this type.
///
/// # Errors
/// 404 when the job asks nothing by this name; 409 when it was answered; 410 when its time is over; 422 for another type.
pub(super) async fn open_question(
    tx: &mut PgConnection,
    job: &Job,
    envelope: Uuid,
    kind: Option<&str>,
) -> Result<Asked> {
    let asked = envelopes::asked(tx, job.id, envelope).await?.ok_or_else(no_envelope)?;
    if kind.is_some_and(|kind| !envelope::may_answer(&asked.kind, kind)) {
        return Err(member("type", "enum", "is not the type of an answer to this question"));
    }
    match asked.standing {
        Standing::Answered => Err(answered()),
        Standing::Over => Err(Error::Gone("this question's time is over".to_owned())),
        Standing::Open if job.completed_at.is_some() => Err(finished()),
        Standing::Open => Ok(asked),
    }
}

/// Keeps the answer to a question of this kind, and says that it is there; returns the number of what is said, and how long
/// the question waited.
pub(super) async fn keep_answer(
    tx: &mut PgConnection,
    job: i64,
    envelope: Uuid,
    kind: &str,
    sealed: &Sealed,
) -> Result<(i64, Duration)> {
    let took = envelopes::answer(&mut *tx, envelope, sealed).await?.ok_or_else(answered)?;
    let status = json!({ "status": envelope::words(kind).answered });
    Ok((jobs::broadcast(tx, job, &status).await?, took))
}

/// An answer, for the worker.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PickedUp {
    /// `tfa_response`, `credential_response`, or the question's own word.
    #[serde(rename = "type")]
    #[schema(example = "tfa_response")]
    kind: String,
    /// The job.
    #[schema(example = 1)]
    job_id: i64,
    /// The question's guid.
    envelope_id: Uuid,
    /// What the owner said.
    #[schema(example = "123456")]
    message: String,
    /// What lies in the job's safe now, where something does; while the job is claimed, only with its lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>, example = json!({"username": "good_email", "password": "secret"}))]
    account_link: Option<Box<RawValue>>,
}

/// Picks up the answer, once: it is deleted. Nothing: an empty body. `x-postrider-cancel: requested` says that
/// the job is to be ended.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/credential_responses", tag = "job workers", operation_id = "pick_up_response",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("x-postrider-lease" = Option<String>, Header, description = "The worker's lease", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")),
    responses(
        (status = 200, description = "The answer; or an empty text", content(
                (PickedUp = "application/json"),
                (String = "text/plain", example = ""),
            ),
            headers(("x-postrider-cancel" = String, description = "`requested`: the job is to be ended"))),
        (status = 409, description = "The job is finished, or the lease is over", body = Problem, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(super) async fn pick_up(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    roles::require_worker(&caller)?;
    let lease = lease(&headers, None)?;
    let sealer = sealer(&jobs)?;
    let (job, picked) = db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            let job = enter(&mut *tx, &job_type, id, lease).await?;
            let Some(answer) = envelopes::pick_up(&mut *tx, id).await? else { return Ok((job, None)) };
            // Opened before it is deleted for good: with the wrong key it stays.
            let message = sealer.open(&answer.sealed, answer.id.as_bytes())?;
            // While somebody holds the job, what lies in its safe is for the holder alone.
            let is_its_worker = lease.is_some() || job.lease.is_none();
            let content = if job.has_account && is_its_worker { safes::content(tx, id).await? } else { None };
            let link = content.map(|content| safe::open(Some(&sealer), job.item, &content)).transpose()?;
            Ok((job, Some((answer.id, answer.kind, message, link))))
        })
    })
    .await?;
    if job.lease.is_none() {
        jobs.deadlines.notify_one();
    }
    let mut response = match picked {
        None => String::new().into_response(),
        Some((envelope_id, kind, message, account_link)) => {
            let (kind, message) = (envelope::response_type(&kind), message.expose_secret().to_owned());
            Json(PickedUp { kind, job_id: id, envelope_id, message, account_link }).into_response()
        }
    };
    if job.cancelled {
        response.headers_mut().insert("x-postrider-cancel", HeaderValue::from_static("requested"));
    }
    Ok(response)
}

pub(super) fn no_envelope() -> Error {
    Error::NotFound("this job asks nothing by this `envelope_id`".to_owned())
}

fn answered() -> Error {
    Error::Conflict("this question was answered already".to_owned())
}

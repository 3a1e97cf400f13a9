//! What a job asks: its worker asks, the client that created the job reads it.

use super::documented::{CredentialRequest, JobTypeName, Question};
use super::edge::member;
use super::entry::lease;
use super::once::{self, Once};
use super::state::{Jobs, sealer};
use super::view;
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result, is_constraint};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::idempotency::IdempotencyKey;
use crate::http::json_text::{is, members, object, to_value};
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::store::{envelopes, jobs};
use crate::jobs::{envelope, roles};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use serde_json::value::RawValue;

/// The statement that refuses a second question holds this name.
const ONE_PENDING: &str = "envelopes_one_pending_a_job_idx";

/// Asks the job's owner something: one thing at a time.
#[utoipa::path(
    post, path = "/messages/{job_type}/{job_id}/credential_requests", tag = "job workers", operation_id = "ask",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, known for a day: the same key with the same body of the same caller is answered as the first time, and nothing happens twice"),
        ("x-postrider-lease" = Option<String>, Header, description = "The worker's lease; it may be the body's `lease` too", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")),
    request_body(content = CredentialRequest, content_type = "application/json",
        description = "`type` (tfa_request, credential_request or a word of yours); `message`, `account_link` and what else the owner is to see"),
    responses(
        (status = 201, description = "The question as the owner sees it, with its `envelope_id`", body = Question),
        (status = 200, description = "This idempotency key was used before: the first answer", body = Question),
        (status = 409, description = "One is pending, the job is finished or being cancelled, the lease is over, or the idempotency key was used for something else", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn ask(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    let job_type = jobs.job_type(&name)?;
    roles::require_worker(&caller)?;
    jobs.visible(&job_type, id, &caller).await?;
    let document = body::read_json(&headers, body, &jobs.limits).await?.raw;
    let value = to_value(document.get()).unwrap_or_default();
    let lease = lease(&headers, Some(&value))?;
    let key = once::key(&headers, &caller, &job_type, ("ask", id), &document)?;
    // Nothing is asked whose answer could not be kept.
    sealer(&jobs)?;
    let sent = members(&document).ok_or_else(|| Error::invalid("", "type", "must be an object"))?;
    let kind = match value["type"].as_str() {
        Some(kind) if (1..=100).contains(&kind.chars().count()) && !kind.contains('\0') => kind.to_owned(),
        _ => return Err(member("type", "required", "must be a text of 1 to 100 characters, without U+0000")),
    };
    let ours = ["type", "lease", "job_id", "envelope_id"];
    let content = object(sent.into_iter().filter(|(key, _)| !ours.iter().any(|ours| is(key, ours))));
    let asked = jobs
        .as_worker(&job_type, id, lease, key, move |tx, job| {
            Box::pin(async move {
                if job.asks {
                    return Err(pending());
                }
                if job.cancelled {
                    return Err(Error::Conflict("this job is being cancelled: end it".to_owned()));
                }
                let asked = envelopes::ask(&mut *tx, job.id, &kind, &content).await;
                let envelope = asked.map_err(|error| match error {
                    error if is_constraint(&error, ONE_PENDING) => pending(),
                    error => error.into(),
                })?;
                let status = json!({ "status": envelope::words(&kind).pending });
                let seq = jobs::broadcast(tx, job.id, &status).await?;
                let content = sqlx::types::Json(content);
                let asked = envelopes::Pending { id: envelope, job_id: job.id, kind, content };
                Ok((seq, view::request(&asked)))
            })
        })
        .await?;
    match asked {
        Once::Now(seq, answer) => {
            jobs.said(&job_type, id, seq, None);
            job_type.series.asked.increment(1);
            jobs.deadlines.notify_one();
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Once::Before(answer) => Ok((StatusCode::OK, Json(answer))),
    }
}

fn pending() -> Error {
    Error::Conflict("this job asks something already".to_owned())
}

/// Reads what the job asks, again and again until it is answered. Nothing: an empty body.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/credential_requests", tag = "job channels", operation_id = "read_request",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1)),
    responses(
        (status = 200, description = "`type`, `job_id`, `envelope_id` and what the worker sent with it; or an empty text", content(
            (Question = "application/json"),
            (String = "text/plain", example = ""),
        )),
        Problems,
    ),
)]
pub(super) async fn read(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    roles::require_agent(&caller)?;
    let job = jobs.own(&job_type, id, &caller).await?;
    let pending = if job.asks { envelopes::pending(&jobs.db.api, &[id]).await? } else { Vec::new() };
    Ok(pending.first().map_or_else(
        // An empty text: of what is no JSON no client in the field makes a value.
        || String::new().into_response(),
        |pending| Json(view::request(pending)).into_response(),
    ))
}

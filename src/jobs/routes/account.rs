//! What the creator of a job hands over for its worker alone: new credentials, which may answer what the worker asks.

use super::documented::AccountLink;
use super::responses::{keep_answer, no_envelope, open_question};
use super::state::{Jobs, finished, no_job};
use super::view::Account;
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::Path;
use crate::http::json_text::{is, members};
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::job_type::JobType;
use crate::jobs::roles;
use crate::jobs::safe::{self, Link};
use crate::jobs::store::jobs::{self, Job};
use crate::jobs::store::safes;
use crate::seal::{Sealed, no_key};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The header that names the question which is answered.
const ENVELOPE: &str = "x-cardsavr-envelope-id";

/// What becomes of what is handed over for a job without an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The job has one from now on.
    IsMade,
    /// It is refused: there is no such account.
    IsRefused,
}

/// Replaces the credentials of an account, which has the number of its job; with `x-cardsavr-envelope-id` this is the
/// answer to what the job asks, too.
#[utoipa::path(
    put, path = "/cardsavr_accounts/{job_id}", tag = "job channels", operation_id = "replace_account",
    params(("job_id" = i64, Path, description = "The account's number, `account_id` of its job", minimum = 1, example = 1),
        ("x-cardsavr-envelope-id" = Option<Uuid>, Header, description = "The question that the credentials answer", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")),
    request_body = AccountLink,
    responses(
        (status = 200, description = "The account, without what is secret", body = Account),
        (status = 409, description = "The job is finished, or the question was answered already", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The question's time is over", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn replace(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Account>> {
    roles::require_agent(&caller)?;
    let type_id = jobs::type_of(&jobs.db.api, id).await?.ok_or_else(no_job)?;
    let job_type = jobs.types.by_id(type_id).ok_or_else(no_job)?;
    jobs.own(&job_type, id, &caller).await?;
    let AccountLink { account_link } = body::read_json_as(&headers, body, &jobs.limits).await?;
    let link = read(&account_link, "/account_link")?;
    let job = hand_over(&jobs, &job_type, id, &headers, link, Missing::IsRefused).await?;
    Account::of(&job).map(Json).ok_or_else(no_account)
}

/// What the body of a job hands over as `account`; none if it hands over nothing.
///
/// # Errors
/// 422 when it says something else too, hands over what is no object of strings, or hands over nothing while the headers
/// name a question.
pub(super) fn of_job(document: &RawValue, headers: &HeaderMap) -> Result<Option<Link>> {
    let all = members(document).unwrap_or_default();
    let account = all.iter().rev().find(|(key, _)| is(key, "account"));
    let account = account.and_then(|(_, account)| members(account)).unwrap_or_default();
    let Some((_, link)) = account.iter().rev().find(|(key, _)| is(key, safe::LINK)) else {
        if headers.contains_key(ENVELOPE) {
            let words = "must be there, with `account_link`: `x-cardsavr-envelope-id` names the question that it answers";
            return Err(Error::invalid("/account", "required", words));
        }
        return Ok(None);
    };
    if all.len() > 1 || account.len() > 1 {
        let words = "is handed over alone: an object with `account_link` and nothing else";
        return Err(Error::invalid("/account", "alone", words));
    }
    read(link, "/account/account_link").map(Some)
}

fn read(link: &RawValue, place: &str) -> Result<Link> {
    Link::read(link).ok_or_else(|| Error::invalid(place, "type", "must be an object of strings"))
}

/// Puts `link` into the safe of a job, and answers the question that the headers name with it, all at once; returns the job.
///
/// # Errors
/// 409 when the job is finished; of a question, as [`open_question`], and 400 when something is missing that it names.
pub(super) async fn hand_over(
    jobs: &Jobs,
    job_type: &JobType,
    id: i64,
    headers: &HeaderMap,
    link: Link,
    missing: Missing,
) -> Result<Job> {
    let envelope = headers.get(ENVELOPE).map(|envelope| {
        let envelope = envelope.to_str().ok().and_then(|text| Uuid::try_parse(text.trim()).ok());
        envelope.ok_or_else(no_envelope)
    });
    let envelope = envelope.transpose()?;
    let sealer = jobs.sealer.clone().ok_or_else(|| no_key("an account"))?;
    let type_id = job_type.id;
    let (job, answered) = db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            let job = jobs::lock(&mut *tx, type_id, id).await?.ok_or_else(no_job)?;
            if missing == Missing::IsRefused && !job.has_account {
                return Err(no_account());
            }
            let Some(envelope) = envelope else {
                if job.completed_at.is_some() {
                    return Err(finished());
                }
                let content = link.seal(&sealer, job.item).map_err(Error::internal)?;
                safes::put(&mut *tx, id, &content).await?;
                let job = jobs::get(tx, type_id, id).await?.ok_or_else(no_job)?;
                return Ok((job, None));
            };
            let asked = open_question(&mut *tx, &job, envelope, None).await?;
            let answer = link.answer(&asked.kind, &asked.content)?;
            let before = safes::content(&mut *tx, id).await?;
            let content = match before.filter(|_| safe::is_code(&asked.kind)) {
                Some(before) => {
                    let before = safe::open(Some(&sealer), job.item, &before)?;
                    link.seal_beside(&before, &sealer, job.item)
                }
                None => link.seal(&sealer, job.item),
            };
            safes::put(&mut *tx, id, &content.map_err(Error::internal)?).await?;
            let answer = sealer.seal(answer.expose_secret(), envelope.as_bytes()).map_err(Error::internal)?;
            let kept = keep_answer(&mut *tx, id, envelope, &asked.kind, &answer).await?;
            let job = jobs::get(tx, type_id, id).await?.ok_or_else(no_job)?;
            Ok((job, Some(kept)))
        })
    })
    .await?;
    if let Some((seq, took)) = answered {
        jobs.said(job_type, id, seq, None);
        job_type.series.answer(took);
    }
    Ok(job)
}

/// The account of a job with what lies in its safe, for the worker that holds the lease.
///
/// # Errors
/// 503 where it cannot be opened.
pub(super) fn with_content(jobs: &Jobs, job: &Job, content: Option<&Sealed>) -> Result<Option<Account>> {
    let Some(content) = content else { return Ok(None) };
    let link = safe::open(jobs.sealer.as_deref(), job.item, content)?;
    let mut account = Account::of(job);
    if let Some(account) = &mut account {
        account.account_link = Some(link);
    }
    Ok(account)
}

fn no_account() -> Error {
    Error::NotFound("there is no such account".to_owned())
}

//! Create jobs, and list them.

use super::documented::{JobTypeName, NewJobs};
use super::edge::member;
use super::job::{Hydration, hydrate};
use super::state::Jobs;
use super::view::{CreatedJobs, View};
use crate::auth::Authenticated;
use crate::db;
use crate::error::{Error, Problem, Result};
use crate::http::body::{self, Json as Document};
use crate::http::duration;
use crate::http::extract::{Path, Query};
use crate::http::idempotency;
use crate::http::idempotency::IdempotencyKey;
use crate::http::json_text::{is, members, object, raw, to_string, to_value};
use crate::http::openapi::{BodyProblems, Problems};
use crate::http::request_id;
use crate::jobs::job_type::JobType;
use crate::jobs::roles;
use crate::jobs::safe::{self, Link};
use crate::jobs::store::cardholders;
use crate::jobs::store::idempotency::{self as keys, Key, Known};
use crate::jobs::store::jobs::{self, Account, Filter, Job, New};
use crate::jobs::store::registrations;
use crate::jobs::{access_key, data};
use crate::seal::{Sealed, no_key};
use crate::traces::Origin;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// The most jobs in one request, and in one listing.
const MOST: usize = 100;
/// The longest time that a job or a question may be given, in seconds.
const LONGEST: u64 = 30 * 86_400;
/// The longest name of a person, in characters.
const LONGEST_CUID: usize = 255;

/// Creates a job, or an array of jobs. Each answer has the access key of its creator's registration.
#[utoipa::path(
    post, path = "/{job_type}", tag = "jobs", operation_id = "create_job",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, known for a day: the same key with the same body of the same creator returns the first job again, with another access key that reads from the beginning"),
        ("x-cardsavr-hydration" = Option<String>, Header, description = "A JSON array of what is wanted too: `credential_requests` (what it asks its creator), `account`, `cardholder`", example = "[\"credential_requests\"]")),
    request_body(content = NewJobs, content_type = "application/json",
        description = "`cardholder_id`, and what the worker needs to know; `job_timeout` and `credential_timeout` in seconds. One object, or an array of 1 to 100"),
    responses(
        (status = 201, description = "The job with its `access_key`; for an array, an array", body = CreatedJobs),
        (status = 200, description = "This idempotency key was used before: what it created, as it is now", body = CreatedJobs),
        (status = 409, description = "This idempotency key was used with another body", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn create(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    roles::require_agent(&caller)?;
    let Document { raw } = body::read_json(&headers, body, &jobs.limits).await?;
    let (many, documents) = match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        Ok(documents) => (true, documents),
        Err(_) => (false, vec![&*raw]),
    };
    if documents.is_empty() || documents.len() > MOST {
        return Err(Error::BadRequest(format!("an array has 1 to {MOST} jobs")));
    }
    let key = idempotency::Key::read(&headers, "create", &raw)?;
    let key = key.map(|key| Key { type_id: job_type.id, owner: caller.subject.clone(), key });
    let origin = request_id::kept(&headers);
    let new = documents.into_iter().map(|one| {
        let new = read(one, &jobs, &job_type)?;
        Ok(New { origin: origin.clone(), ..new })
    });
    let new = new.collect::<Result<Vec<New>>>()?;
    let (status, made) = store(&jobs, job_type.id, caller.subject.clone(), new, key).await?;
    let (found, keys): (Vec<Job>, Vec<String>) = made.into_iter().unzip();
    let mut views = hydrate(&jobs, &caller, found, &Hydration::of(&headers)).await?;
    for (view, key) in views.iter_mut().zip(keys) {
        view.access_key = Some(key);
    }
    if status == StatusCode::CREATED {
        job_type.series.created.increment(views.len() as u64);
        jobs.wake.ready(job_type.id, 0);
    }
    let body =
        if many { Json(views).into_response() } else { Json(views.into_iter().next()).into_response() };
    Ok((status, body).into_response())
}

/// Stores the jobs, unless the key says that they are there already; returns them, each with an access key.
async fn store(
    jobs: &Jobs,
    job_type: i32,
    owner: String,
    new: Vec<New>,
    key: Option<Key>,
) -> Result<(StatusCode, Vec<(Job, String)>)> {
    db::transaction::<_, Error, _>(&jobs.db.api, move |tx| {
        Box::pin(async move {
            let known = match &key {
                Some(key) => keys::take(&mut *tx, key).await?,
                None => Known::Fresh,
            };
            let (status, ids) = match known {
                Known::Fresh => {
                    let persons = persons(&mut *tx, &owner, &new).await?;
                    let mut ids = Vec::with_capacity(new.len());
                    for new in new {
                        let named = new.cuid.as_ref().and_then(|cuid| persons.get(cuid).copied());
                        let person = new.cardholder_id.or(named).unwrap_or_default();
                        ids.push(jobs::create(&mut *tx, job_type, &owner, person, &new).await?);
                    }
                    if let Some(key) = key {
                        keys::keep(&mut *tx, &key, &ids).await?;
                    }
                    (StatusCode::CREATED, ids)
                }
                Known::Before(former) => {
                    key.iter().try_for_each(|key| key.key.compare(&former.digest))?;
                    (StatusCode::OK, former.job_ids)
                }
            };
            let mut made = Vec::with_capacity(ids.len());
            for id in ids {
                let job =
                    jobs::get(&mut *tx, job_type, id).await?.ok_or_else(|| idempotency::deleted("job"))?;
                let (access_key, hash) = access_key::make()?;
                registrations::register_creator(&mut *tx, id, &owner, &hash).await?;
                made.push((job, access_key));
            }
            Ok((status, made))
        })
    })
    .await
}

/// The numbers of the persons of whom only the names are known. In one order, so that nobody waits in a circle.
async fn persons(tx: &mut PgConnection, owner: &str, new: &[New]) -> sqlx::Result<BTreeMap<String, i64>> {
    let named = new.iter().filter(|new| new.cardholder_id.is_none()).filter_map(|new| new.cuid.clone());
    let mut persons: BTreeMap<String, i64> = named.map(|cuid| (cuid, 0)).collect();
    for (cuid, number) in &mut persons {
        *number = cardholders::number(&mut *tx, owner, cuid).await?;
    }
    Ok(persons)
}

/// Reads one job to be created. What is not ours is the worker's, as it stands: the members of `data`, and every
/// other.
fn read(document: &RawValue, jobs: &Jobs, job_type: &JobType) -> Result<New> {
    let mut sent = members(document).ok_or_else(|| Error::invalid("", "type", "a job is an object"))?;
    let mut take = |name: &str| {
        let mut found = None;
        sent.retain(|(key, value)| {
            let is_it = is(key, name);
            found = if is_it { to_value(value.get()) } else { found.take() };
            !is_it
        });
        found
    };
    let cardholder_id = take("cardholder_id");
    let rules = &job_type.rules;
    let job_timeout = rules.job_timeout.unwrap_or(jobs.job_timeout);
    let job_timeout = seconds("job_timeout", take("job_timeout"), job_timeout)?;
    let asking = rules.credential_timeout.unwrap_or(jobs.credential_timeout);
    let credential_timeout = seconds("credential_timeout", take("credential_timeout"), asking)?;
    let item = jobs.db.ids.next();
    let object_called = |name: &str| {
        let found = sent.iter().rev().find(|(key, _)| is(key, name))?;
        members(found.1)
    };
    let (cardholder_id, cuid) = person(cardholder_id, object_called("cardholder"))?;
    let named = object_called("account");
    let (account, rest) = match named.map(|named| account(jobs, item, named)).transpose()? {
        Some((account, rest)) => (Some(account), Some(rest)),
        None => (None, None),
    };
    let name = raw("account");
    if let Some(rest) = &rest {
        sent.retain(|(key, _)| !is(key, "account"));
        sent.push((&name, rest));
    }
    let mut nested = Vec::new();
    sent.retain(|(key, value)| match is(key, "data").then(|| members(value)).flatten() {
        Some(members) => {
            nested.extend(members);
            false
        }
        None => true,
    });
    let has_data = !(sent.is_empty() && nested.is_empty());
    let data = has_data.then(|| sealed(jobs, item, &object(sent.into_iter().chain(nested)))).transpose()?;
    Ok(New {
        item,
        cardholder_id,
        cuid,
        account,
        data,
        job_timeout,
        credential_timeout,
        origin: Origin::default(),
    })
}

/// The members of an object.
type Members<'a> = Vec<(&'a RawValue, &'a RawValue)>;

/// Whom a job is for: a number, or, of an object `cardholder`, the name that its creator uses.
fn person(number: Option<Value>, named: Option<Members<'_>>) -> Result<(Option<i64>, Option<String>)> {
    let cuid = named.map(|named| {
        let cuid = named.iter().rev().find(|(key, _)| is(key, "cuid"));
        cuid.map(|(_, cuid)| {
            let cuid = to_string(cuid)
                .filter(|cuid| (1..=LONGEST_CUID).contains(&cuid.chars().count()) && !cuid.contains('\0'));
            let words = format!("must be a text of 1 to {LONGEST_CUID} characters, without U+0000");
            cuid.ok_or_else(|| Error::invalid("/cardholder/cuid", "length", words))
        })
    });
    let cuid = cuid.flatten().transpose()?;
    if number.is_none() && cuid.is_some() {
        return Ok((None, cuid));
    }
    let number = match number {
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    let number = number.filter(|id| *id >= 0);
    let number = number.ok_or_else(|| member("cardholder_id", "type", "must be a whole number"))?;
    Ok((Some(number), cuid))
}

/// An account, and what of it goes into the job's data: all but what is for its safe.
fn account(jobs: &Jobs, item: Uuid, mut named: Members<'_>) -> Result<(Account, Box<RawValue>)> {
    let find = |name: &str| named.iter().rev().find(|(key, _)| is(key, name)).map(|(_, value)| *value);
    let site = find("merchant_site_id").and_then(|site| serde_json::from_str(site.get()).ok());
    let content = find(safe::LINK).filter(|link| link.get() != "null").map(|link| {
        let link = Link::read(link);
        let link = link
            .ok_or_else(|| Error::invalid("/account/account_link", "type", "must be an object of strings"))?;
        let sealer = jobs.sealer.as_ref().ok_or_else(|| no_key("an account"))?;
        link.seal(sealer, item).map_err(Error::internal)
    });
    let content = content.transpose()?;
    named.retain(|(key, _)| !is(key, safe::LINK));
    Ok((Account { merchant_site_id: site, content }, object(named)))
}

fn sealed(jobs: &Jobs, item: Uuid, data: &RawValue) -> Result<Sealed> {
    let sealer = jobs.sealer.as_ref().ok_or_else(|| no_key("a job's data"))?;
    data::seal(sealer, item, data).map_err(Error::internal)
}

fn seconds(name: &str, value: Option<Value>, default: Duration) -> Result<Duration> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let time = match &value {
                Value::String(text) => duration::read(text),
                value => value.as_u64().map(Duration::from_secs),
            };
            let whole =
                time.filter(|time| time.subsec_nanos() == 0 && (1..=LONGEST).contains(&time.as_secs()));
            let words =
                format!("must be a whole number of seconds from 1 to {LONGEST}, or a duration such as 5m");
            whole.ok_or_else(|| member(name, "range", &words))
        }
    }
}

/// What a listing is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Numbers of jobs, with commas.
    #[param(pattern = "^( *[0-9]{1,18} *(, *[0-9]{1,18} *)*)?$", example = "1,2")]
    ids: Option<String>,
    /// Persons, with commas.
    #[param(pattern = "^( *[0-9]{1,18} *(, *[0-9]{1,18} *)*)?$", example = "7")]
    cardholder_ids: Option<String>,
    /// The newest status.
    #[param(example = "REQUESTED")]
    status: Option<String>,
}

/// Lists jobs, newest first, at most 100: a cardholder agent's own, or any.
#[utoipa::path(
    get, path = "/{job_type}", tag = "jobs", operation_id = "list_jobs",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), Listing,
        ("x-cardsavr-hydration" = Option<String>, Header, description = "A JSON array of what is wanted too: `credential_requests` (what it asks its creator), `account`, `cardholder`", example = "[\"credential_requests\"]")),
    responses((status = 200, description = "The jobs", body = Vec<View>), Problems),
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path(name): Path<String>,
    Query(Listing { ids, cardholder_ids, status }): Query<Listing>,
    headers: HeaderMap,
) -> Result<Json<Vec<View>>> {
    let job_type = jobs.job_type(&name)?;
    roles::require_any(&caller)?;
    if caller.subject.is_empty() && !roles::sees_any(&caller) {
        return Ok(Json(Vec::new()));
    }
    let filter = Filter {
        owner: (!roles::sees_any(&caller)).then(|| caller.subject.clone()),
        ids: numbers("ids", ids.as_deref())?,
        cardholder_ids: numbers("cardholder_ids", cardholder_ids.as_deref())?,
        status,
    };
    let limit = i64::try_from(MOST).unwrap_or(i64::MAX);
    let found = jobs::list(&jobs.db.api, job_type.id, &filter, limit).await?;
    Ok(Json(hydrate(&jobs, &caller, found, &Hydration::of(&headers)).await?))
}

fn numbers(name: &str, text: Option<&str>) -> Result<Option<Vec<i64>>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let numbers = text.split(',').map(|number| number.trim().parse()).collect::<Result<_, _>>();
    numbers.map(Some).map_err(|_| Error::BadRequest(format!("`{name}` must be numbers with commas")))
}

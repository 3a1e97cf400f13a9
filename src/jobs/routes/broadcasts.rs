//! A job's log: polled, waited for, read again; and written by workers.

use super::documented::{JobChange, JobTypeName};
use super::edge::member;
use super::entry::{self, lease};
use super::once::{self, Once};
use super::state::Jobs;
use super::status::Change;
use super::stream;
use crate::auth::{Authenticated, AuthenticatedUntil};
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::duration::{self, DurationText};
use crate::http::extract::{Path, Query};
use crate::http::idempotency::IdempotencyKey;
use crate::http::json_text::raw;
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::failures::Ended;
use crate::jobs::follow::{BATCH, Tail};
use crate::jobs::message::{Message, read_on};
use crate::jobs::room::{Held, hold};
use crate::jobs::store::broadcasts;
use crate::jobs::store::registrations::{self, Registration};
use crate::jobs::{access_key, roles};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// The longest wait: clients in the field give up after ten seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(9);
/// How long a read waits for memory.
pub(super) const ROOM: Duration = Duration::from_secs(5);

/// How to read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Reading {
    /// Read what comes after this `seq`, whatever was handed out before; each message then has its `seq`.
    #[param(example = 0)]
    after: Option<i64>,
    /// Wait so long if there is nothing, such as `9s`, which is the longest; a bare number is one of seconds.
    #[param(inline, value_type = Option<Waiting>)]
    wait: Option<String>,
}

/// How long to wait.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes")]
enum Waiting {
    Seconds(u32),
    Text(DurationText),
}

/// Reads what was said about a job since the last poll with this key; with `after`, since that message; with
/// `Accept: text/event-stream`, as a stream that goes on after `Last-Event-ID`. A read ends at 1,000 messages or 1 MiB,
/// whichever is first; the next goes on there.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/broadcasts", tag = "job channels", operation_id = "read_broadcasts",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("cardsavr-messaging-access-key" = String, Header, description = "The access key; also as `x-cardsavr-messaging-access-key`", example = "Jx0n3p0wq8yq1zq9f2mG6A=="),
        ("x-cardsavr-messaging-access-key" = Option<String>, Header, description = "As `cardsavr-messaging-access-key`", example = "Jx0n3p0wq8yq1zq9f2mG6A=="),
        ("x-cardsavr-cardsavr-messaging-access-key" = Option<String>, Header, description = "As `cardsavr-messaging-access-key`; clients in the field send this", example = "Jx0n3p0wq8yq1zq9f2mG6A=="),
        ("last-event-id" = Option<i64>, Header, description = "For a stream: the `seq` of the last event that was read"), Reading),
    responses(
        (status = 200, description = "The messages, oldest first, possibly none", body = Vec<Message>),
        (status = 204, description = "For a stream: the final message was read, nothing follows"),
        Problems,
    ),
)]
pub(super) async fn read(
    AuthenticatedUntil { caller, until }: AuthenticatedUntil,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    Query(Reading { after, wait }): Query<Reading>,
    headers: HeaderMap,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    roles::require_any(&caller)?;
    let key = access_key::shown(&headers)?;
    let accept = headers.get(header::ACCEPT).map_or(b"".as_slice(), |value| value.as_bytes());
    let streams = accept.windows(17).any(|part| part.eq_ignore_ascii_case(b"text/event-stream"));
    if !streams {
        job_type.series.polls.increment(1);
    }
    let wait = wait.map_or(Some(Duration::ZERO), |text| duration::read_or_seconds(&text));
    let wait = wait.ok_or_else(|| Error::BadRequest("`wait` must be a duration such as 9s".to_owned()))?;
    let deadline = Instant::now() + wait.min(LONGEST_WAIT);
    let mut followed: Option<(Arc<Tail>, watch::Receiver<i64>)> = None;
    let mut place: Option<Held> = None;
    loop {
        // One connection for both statements of a poll; a poll that finds nothing is the first alone.
        let mut db = jobs.db.api.acquire().await?;
        let registration = registrations::by_key(&mut *db, job_type.id, id, &key, jobs.retention).await?;
        let registration = registration.filter(|found| roles::owns(&caller, &found.subject));
        let registration = registration.ok_or_else(access_key::refused)?;
        if streams {
            let from = stream::place(&headers, after)?;
            return Ok(stream::from(&jobs, &job_type, id, from, &registration, until));
        }
        let Registration { newest, cursor, finished, .. } = registration;
        if after.unwrap_or(cursor).max(0) == newest {
            drop(db);
        } else {
            if place.is_none() {
                place = jobs.tails.room.try_enter(&caller.subject);
            }
            let Some(held) = place.take() else {
                // Nobody waits there with a connection.
                drop(db);
                place = timeout(ROOM, jobs.tails.room.enter(&caller.subject)).await.map_err(|_| full())?;
                continue;
            };
            let found = match after {
                Some(after) => Some(from(&mut db, &jobs, id, after, &registration).await?),
                None => next(&mut db, &jobs, id, &registration).await?,
            };
            drop(db);
            match found {
                // Another poll with this key has read what there was: look again for what came since.
                None => {
                    place = Some(held);
                    continue;
                }
                Some(messages) if !messages.is_empty() => return Ok(sent(messages, held)),
                Some(_) => {}
            }
        }
        if finished || jobs.stopping.is_cancelled() || Instant::now() >= deadline {
            return Ok(Json(Vec::<Message>::new()).into_response());
        }
        // Listening begins before looking, so that nothing slips in between: the first time round, look again.
        let Some((_, news)) = &mut followed else {
            let tail = jobs.tails.follow(id);
            let news = tail.news();
            followed = Some((tail, news));
            continue;
        };
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = jobs.stopping.cancelled() => {}
        }
    }
}

/// What comes after a place that the reader keeps itself; nothing is written.
async fn from(
    db: &mut PgConnection,
    jobs: &Jobs,
    id: i64,
    after: i64,
    registration: &Registration,
) -> Result<Vec<Message>> {
    let after = after.max(0);
    #[cfg(feature = "planted-bugs")]
    crate::planted::move_cursor(&mut *db, registration.id, registration.newest).await?;
    let found = broadcasts::after(db, id, after, jobs.retention, BATCH).await?;
    Ok(read_on(id, after, registration.newest, found, true))
}

/// What comes after the registration's cursor, which moves; none when another poll moved it meanwhile.
async fn next(
    db: &mut PgConnection,
    jobs: &Jobs,
    id: i64,
    registration: &Registration,
) -> Result<Option<Vec<Message>>> {
    let Registration { cursor, newest, .. } = *registration;
    let found = registrations::take_unread(db, id, registration, jobs.retention, BATCH).await?;
    Ok(found.map(|found| read_on(id, cursor, newest, found, false)))
}

/// Messages as an array, for which memory is held until they are sent.
pub(super) fn sent<T: Serialize + Lengthy>(messages: Vec<T>, held: Held) -> Response {
    let length: usize = messages.iter().map(Lengthy::length).sum();
    let mut text = Vec::with_capacity(length + 2);
    if let Err(error) = serde_json::to_writer(&mut text, &messages) {
        return Error::internal(error).into_response();
    }
    drop(messages);
    let held = held.keep(text.len());
    ([(header::CONTENT_TYPE, "application/json")], Body::from(hold(text, Some(held)))).into_response()
}

/// What says about how long it is as JSON, in bytes.
pub(super) trait Lengthy {
    fn length(&self) -> usize;
}

impl Lengthy for Message {
    fn length(&self) -> usize {
        Self::length(self)
    }
}

impl Lengthy for Box<RawValue> {
    fn length(&self) -> usize {
        self.get().len() + 1
    }
}

/// 503: others are being sent all that there may be in memory.
pub(super) fn full() -> Error {
    Error::Unavailable("too much is being read at a time".to_owned(), Duration::from_secs(1))
}

/// Says something about a job. With `termination_type` it ends.
#[utoipa::path(
    post, path = "/messages/{job_type}/{job_id}/broadcasts", tag = "job workers", operation_id = "broadcast",
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "At most 255 characters, known for a day: the same key with the same body of the same caller is answered as the first time, and nothing happens twice"),
        ("x-postrider-lease" = Option<String>, Header, description = "The worker's lease; it may be the body's `lease` too", example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")),
    request_body(content = JobChange, content_type = "application/json",
        description = "As for `PUT /{job_type}/{job_id}`, or that in `message`"),
    responses(
        (status = 201, description = "The message as it is sent, with its `seq`", body = Message),
        (status = 200, description = "A worker says its end of the job again: the message as it was sent; or this idempotency key was used before: the first answer", body = Message),
        (status = 409, description = "The job is finished otherwise, the lease is over, or the idempotency key was used for something else", body = Problem, content_type = "application/problem+json"),
        Problems, BodyProblems,
    ),
)]
pub(super) async fn say(
    Authenticated(caller): Authenticated,
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Box<RawValue>>)> {
    let job_type = jobs.job_type(&name)?;
    roles::require_worker(&caller)?;
    let job = jobs.visible(&job_type, id, &caller).await?;
    let document = body::read_json(&headers, body, &jobs.limits).await?;
    let lease = lease(&headers, Some(&document.value()))?;
    let key = once::key(&headers, &caller, &job_type, ("broadcast", id), &document.raw)?;
    let change = Change::read(&document.raw)?;
    if change.is_empty() {
        return Err(member("status", "required", "must say something"));
    }
    let (retention, end, digest) = (jobs.retention, change.end(), change.end_digest());
    let status = change.status().map(str::to_owned);
    let said = jobs
        .as_worker(&job_type, id, lease, key, move |tx, job| {
            Box::pin(async move {
                let seq = entry::say(&mut *tx, &job, change).await?;
                let said = broadcasts::after(tx, job.id, seq - 1, retention, 1).await?;
                Ok((seq, raw(&said.into_iter().next().map(|broadcast| Message::status(broadcast, true)))))
            })
        })
        .await;
    if jobs.was_said(&said, &job_type, id, lease, digest).await? {
        let last = broadcasts::last(&jobs.db.api, id).await?;
        let last = last.map(|broadcast| Message::status(broadcast, true));
        return Ok((StatusCode::OK, Json(raw(&last))));
    }
    match said? {
        Once::Now(seq, answer) => {
            jobs.said(&job_type, id, seq, end.as_deref());
            let status = status.or_else(|| Some(job.status.clone()));
            Ended { end, status, ..Ended::of(&job_type.name, &job) }.tell(&jobs.tracer);
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Once::Before(answer) => Ok((StatusCode::OK, Json(answer))),
    }
}

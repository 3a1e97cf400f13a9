//! A job's log: polled, waited for, read again, streamed; and written by workers.

use super::edge::member;
use super::entry::{self, lease};
use super::once::{self, Once};
use super::state::Jobs;
use super::status::Change;
use crate::auth::Authenticated;
use crate::error::{Error, Problem, Result};
use crate::http::body;
use crate::http::extract::{Path, Query};
use crate::http::json_text::raw;
use crate::http::openapi::{BodyProblems, Problems};
use crate::jobs::follow::{BATCH, Tail};
use crate::jobs::job_type::JobType;
use crate::jobs::message::{Message, read_on};
use crate::jobs::metrics::Open;
use crate::jobs::store::broadcasts;
use crate::jobs::store::registrations::{self, Registration};
use crate::jobs::{access_key, roles};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest wait: clients in the field give up after ten seconds.
const LONGEST_WAIT: u64 = 9;
/// How often a stream that has nothing to say shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How to read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Reading {
    /// Read what comes after this `seq`, whatever was handed out before; each message then has its `seq`.
    after: Option<i64>,
    /// Wait for so many seconds, at most 9, if there is nothing.
    wait: Option<u64>,
}

/// Reads what was said about a job since the last poll with this key; with `after`, since that message; with
/// `Accept: text/event-stream`, as a stream that goes on after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/broadcasts", tag = "job channels", operation_id = "read_broadcasts",
    params(("job_type" = String, Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number"),
        ("cardsavr-messaging-access-key" = String, Header, description = "The access key"), Reading),
    responses(
        (status = 200, description = "The messages, oldest first, possibly none", body = Vec<Message>),
        (status = 204, description = "For a stream: the final message was read, nothing follows"),
        Problems,
    ),
)]
pub(super) async fn read(
    Authenticated(caller): Authenticated,
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
    let deadline = Instant::now() + Duration::from_secs(wait.unwrap_or(0).min(LONGEST_WAIT));
    let mut followed: Option<(Arc<Tail>, watch::Receiver<i64>)> = None;
    loop {
        // One connection for both statements of a poll; a poll that finds nothing is the first alone.
        let mut db = jobs.db.api.acquire().await?;
        let registration = registrations::by_key(&mut *db, job_type.id, id, &key, jobs.retention).await?;
        let registration = registration.filter(|found| roles::owns(&caller, &found.subject));
        let registration = registration.ok_or_else(access_key::refused)?;
        if streams {
            return Ok(stream_from(&jobs, &job_type, id, place(&headers, after)?, &registration));
        }
        let messages = match after {
            Some(after) => from(&mut db, &jobs, id, after, &registration).await?,
            None => next(&mut db, &jobs, id, &registration).await?,
        };
        drop(db);
        // Another poll with this key has read what there was: look again for what came since.
        let Some(messages) = messages else { continue };
        let over = registration.finished || jobs.stopping.is_cancelled() || Instant::now() >= deadline;
        if !messages.is_empty() || over {
            return Ok(Json(messages).into_response());
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
) -> Result<Option<Vec<Message>>> {
    if after >= registration.newest {
        return Ok(Some(Vec::new()));
    }
    let after = after.max(0);
    #[cfg(feature = "planted-bugs")]
    crate::planted::move_cursor(&mut *db, registration.id, registration.newest).await?;
    let found = broadcasts::after(db, id, after, jobs.retention, BATCH).await?;
    Ok(Some(read_on(id, after, registration.newest, &found, true)))
}

/// What comes after the registration's cursor, which moves; none when another poll moved it meanwhile.
async fn next(
    db: &mut PgConnection,
    jobs: &Jobs,
    id: i64,
    registration: &Registration,
) -> Result<Option<Vec<Message>>> {
    let Registration { cursor, newest, .. } = *registration;
    if cursor >= newest {
        return Ok(Some(Vec::new()));
    }
    let found = registrations::take_unread(db, id, registration, jobs.retention, BATCH).await?;
    Ok(found.map(|found| read_on(id, cursor, newest, &found, false)))
}

/// Where a stream goes on: after `Last-Event-ID`, or `after`, or else the registration's cursor.
fn place(headers: &HeaderMap, after: Option<i64>) -> Result<Option<i64>> {
    let Some(last) = headers.get("last-event-id") else { return Ok(after) };
    let last = last.to_str().ok().and_then(|text| text.trim().parse().ok());
    last.map(Some).ok_or_else(|| Error::BadRequest("`Last-Event-ID` is not one of ours".to_owned()))
}

fn stream_from(
    jobs: &Jobs,
    job_type: &JobType,
    id: i64,
    place: Option<i64>,
    registration: &Registration,
) -> Response {
    let after = place.unwrap_or(registration.cursor).max(0);
    if registration.finished && after >= registration.newest {
        // What an event source takes for: do not come back.
        return StatusCode::NO_CONTENT.into_response();
    }
    let tail = jobs.tails.follow(id);
    let news = tail.news();
    let (jobs, ready, open) = (jobs.clone(), VecDeque::new(), job_type.series.stream());
    let follower = Follower { jobs, tail, news, after, ready, finished: false, _open: open };
    Sse::new(follower.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// A stream on its way.
struct Follower {
    jobs: Jobs,
    tail: Arc<Tail>,
    news: watch::Receiver<i64>,
    after: i64,
    ready: VecDeque<Message>,
    finished: bool,
    _open: Open,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let message = follower.next().await?;
            let event = Event::default().event(message.kind).id(message.seq.unwrap_or_default().to_string());
            let event = event.data(serde_json::to_string(&message).unwrap_or_default());
            Some((Ok(event), follower))
        })
    }

    /// The next message; none when the final one was sent, or the server stops: the client comes back.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.finished || self.jobs.stopping.is_cancelled() {
                return None;
            }
            let found = match self.jobs.tails.read(&self.tail, self.after).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "a stream ends: its log cannot be read now");
                    return None;
                }
            };
            if let Some(last) = found.last() {
                self.finished = last.is_final;
                let found: Vec<_> =
                    found.iter().map(|broadcast| broadcasts::Broadcast::clone(broadcast)).collect();
                let newest = found.last().map_or(self.after, |broadcast| broadcast.seq);
                self.ready = read_on(self.tail.job_id(), self.after, newest, &found, true).into();
                self.after = newest;
                continue;
            }
            tokio::select! {
                _ = self.news.changed() => {}
                () = self.jobs.stopping.cancelled() => {}
            }
        }
    }
}

/// Says something about a job. With `termination_type` it ends.
#[utoipa::path(
    post, path = "/messages/{job_type}/{job_id}/broadcasts", tag = "job workers", operation_id = "broadcast",
    params(("job_type" = String, Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number"),
        ("Idempotency-Key" = Option<String>, Header, description = "At most 255 characters, known for a day: the same key with the same body of the same caller is answered as the first time, and nothing happens twice"),
        ("x-postrider-lease" = Option<String>, Header, description = "The worker's lease; it may be the body's `lease` too")),
    request_body(content = serde_json::Value, content_type = "application/json",
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
    jobs.visible(&job_type, id, &caller).await?;
    let document = body::read_json(&headers, body, &jobs.limits).await?;
    let lease = lease(&headers, Some(&document.value()))?;
    let key = once::key(&headers, &caller, &job_type, ("broadcast", id), &document.raw)?;
    let change = Change::read(&document.raw)?;
    if change.is_empty() {
        return Err(member("status", "required", "must say something"));
    }
    let (retention, end, digest) = (jobs.retention, change.end(), change.end_digest());
    let said = jobs
        .as_worker(&job_type, id, lease, key, move |tx, job| {
            Box::pin(async move {
                let seq = entry::say(&mut *tx, &job, change).await?;
                let said = broadcasts::after(tx, job.id, seq - 1, retention, 1).await?;
                Ok((seq, raw(&said.first().map(|broadcast| Message::status(broadcast, true)))))
            })
        })
        .await;
    if jobs.was_said(&said, &job_type, id, lease, digest).await? {
        let last = broadcasts::last(&jobs.db.api, id).await?;
        let last = last.map(|broadcast| Message::status(&broadcast, true));
        return Ok((StatusCode::OK, Json(raw(&last))));
    }
    match said? {
        Once::Now(seq, answer) => {
            jobs.said(&job_type, id, seq, end.as_deref());
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Once::Before(answer) => Ok((StatusCode::OK, Json(answer))),
    }
}

//! A job's log as a stream of events: by `fetch` with a token and a key in headers, or by a browser's `EventSource`,
//! which can send neither, with the key in the query.
//!
//! What stands between us and the reader is told to pass every byte on at once, and a comment comes before it could
//! take silence for an end. The stream writes nothing: its reader's place is the id of the last event that it has.

use super::documented::JobTypeName;
use super::state::Jobs;
use crate::error::{Error, Result};
use crate::http::extract::{Path, Query};
use crate::http::openapi::Problems;
use crate::jobs::access_key;
use crate::jobs::follow::{Batch, Tail};
use crate::jobs::job_type::JobType;
use crate::jobs::message::Message;
use crate::jobs::metrics::Open;
use crate::jobs::room::{Held, hold};
use crate::jobs::store::broadcasts::Broadcast;
use crate::jobs::store::registrations::{self, Registration};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How often a stream that has nothing to say shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a reader whose stream has ended is to come back, in milliseconds: spread, so that those whom one server has
/// dropped do not all come to the next at one moment.
const RETRY: std::ops::Range<u32> = 1000..5000;

/// What an `EventSource` can say.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Streaming {
    /// The access key.
    #[param(example = "Jx0n3p0wq8yq1zq9f2mG6A==")]
    access_key: Option<String>,
    /// Begin after this `seq`; `Last-Event-ID`, which the browser sends when it comes back, counts before it.
    after: Option<i64>,
}

/// Follows a job by a stream of events, for a browser's `EventSource`: the access key in the query takes the place of
/// headers and token. It goes on after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/messages/{job_type}/{job_id}/broadcasts/stream", tag = "job channels", operation_id = "stream_broadcasts",
    security(("access_key" = [])),
    params(("job_type" = inline(JobTypeName), Path, description = "The kind of jobs"), ("job_id" = i64, Path, description = "The job's number", minimum = 1, example = 1), Streaming,
        ("last-event-id" = Option<i64>, Header, description = "The `seq` of the last event that was read")),
    responses(
        (status = 200, description = "The events `job_status` and `gap`, each with its `seq` as its id", content_type = "text/event-stream"),
        (status = 204, description = "The final message was read, nothing follows: do not come back"),
        Problems,
    ),
)]
pub(super) async fn by_query(
    State(jobs): State<Jobs>,
    Path((name, id)): Path<(String, i64)>,
    Query(Streaming { access_key, after }): Query<Streaming>,
    headers: HeaderMap,
) -> Result<Response> {
    let job_type = jobs.job_type(&name)?;
    if !jobs.query_keys {
        let words = "this server takes no access key in a query: POSTRIDER_QUERY_ACCESS_KEYS is off";
        return Err(Error::Forbidden(words.to_owned()));
    }
    // Who sends it as it is has its `+` read as a space.
    let key = access_key::of(&access_key.ok_or_else(access_key::refused)?.replace(' ', "+"));
    let registration = registrations::by_key(&jobs.db.api, job_type.id, id, &key, jobs.retention).await?;
    let registration = registration.ok_or_else(access_key::refused)?;
    Ok(from(&jobs, &job_type, id, place(&headers, after)?, &registration, None))
}

/// Where a stream goes on: after `Last-Event-ID`, or `after`, or else the registration's cursor.
pub(super) fn place(headers: &HeaderMap, after: Option<i64>) -> Result<Option<i64>> {
    let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) else { return Ok(after) };
    let last = last.to_str().ok().and_then(|text| text.trim().parse().ok());
    last.map(Some).ok_or_else(|| Error::BadRequest("`Last-Event-ID` is not one of ours".to_owned()))
}

/// The stream of a job's log after `place`, which ends with the final message, with the caller's token (`until`), or
/// when the server stops.
pub(super) fn from(
    jobs: &Jobs,
    job_type: &JobType,
    id: i64,
    place: Option<i64>,
    registration: &Registration,
    until: Option<std::time::Instant>,
) -> Response {
    let mut after = place.unwrap_or(registration.cursor).max(0);
    let newest = registration.newest;
    if registration.finished && after == newest {
        // What an event source takes for: do not come back.
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut first = format!(": a log of messages\nretry: {}\n\n", rand::random_range(RETRY));
    if let Some(gap) = (after > newest).then(|| Message::gap(id, after, newest, None, true)).flatten() {
        // Nobody beyond the end is left to wait there for the log to grow so long.
        event(&mut first, &gap);
        after = newest;
    }
    let tail = jobs.tails.follow(id);
    let news = tail.news();
    let follower = Follower {
        jobs: jobs.clone(),
        tail,
        news,
        after,
        subject: registration.subject.clone(),
        until: until.map(Instant::from_std),
        ready: VecDeque::new(),
        held: None,
        finished: registration.finished && after == newest,
        _open: job_type.series.stream(),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // `no-transform`: a proxy that compresses would collect what it compresses.
        (header::CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(follower.events(first))).into_response()
}

/// A stream on its way.
struct Follower {
    jobs: Jobs,
    tail: Arc<Tail>,
    news: watch::Receiver<i64>,
    /// The last message that was read.
    after: i64,
    /// Who registered it, for whose reads memory is taken.
    subject: String,
    /// When the caller's token ends.
    until: Option<Instant>,
    /// What was read and is not sent.
    ready: VecDeque<Arc<Broadcast>>,
    /// The memory that it takes.
    held: Option<Arc<Held>>,
    /// Whether nothing follows what was read.
    finished: bool,
    _open: Open,
}

impl Follower {
    fn events(self, first: String) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let first = stream::once(async { Ok(first.into()) });
        let rest = stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        });
        futures::StreamExt::chain(first, rest)
    }

    /// The next event, or a comment after a while without one; none when the stream ends: unless it has told the final
    /// message, the client comes back.
    async fn next(&mut self) -> Option<Bytes> {
        let quiet = sleep(KEEP_ALIVE);
        tokio::pin!(quiet);
        loop {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return None;
            }
            if let Some(broadcast) = self.ready.pop_front() {
                return Some(self.told(&broadcast));
            }
            if self.finished || self.jobs.stopping.is_cancelled() {
                return None;
            }
            self.held = None;
            match self.jobs.tails.read(&self.tail, self.after, &self.subject).await {
                Ok(Batch { found, .. }) if found.is_empty() => {}
                Ok(Batch { found, held }) => {
                    self.finished = found.last().is_some_and(|last| last.is_final);
                    (self.ready, self.held) = (found.into(), held);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a stream ends: its log cannot be read now");
                    return None;
                }
            }
            let token_ends = async {
                match self.until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.news.changed() => {}
                () = self.jobs.stopping.cancelled() => {}
                () = token_ends => {}
                () = &mut quiet => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// A message as it is sent, after the gap before it if there is one.
    fn told(&mut self, broadcast: &Arc<Broadcast>) -> Bytes {
        let seq = broadcast.seq;
        let mut text = String::with_capacity(broadcast.message.0.get().len() + 256);
        if let Some(gap) = Message::gap(broadcast.job_id, self.after, seq, Some(seq), true) {
            event(&mut text, &gap);
        }
        event(&mut text, &Message::status(Broadcast::clone(broadcast), true));
        self.after = seq;
        hold(text.into_bytes(), self.held.clone())
    }
}

/// Adds a message as an event. JSON has line breaks only between its tokens, and a reader puts lines of data together
/// with one.
fn event(text: &mut String, message: &Message) {
    let (kind, seq) = (message.kind, message.seq.unwrap_or_default());
    let json = serde_json::to_string(message).unwrap_or_default();
    _ = write!(text, "event: {kind}\nid: {seq}\n");
    for line in json.split(['\n', '\r']) {
        _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json_text::raw;

    #[test]
    fn an_event_is_one_whatever_white_space_its_message_has() {
        let message = serde_json::from_str("{\"a\":\r\n\r1}").unwrap_or_else(|_| raw(""));
        let mut text = String::new();
        event(&mut text, &Message { kind: "job_status", job_id: 1, seq: Some(2), message });
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(text.matches("\n\n").count(), 1, "{text:?}");
        let json: Option<serde_json::Value> = serde_json::from_str(&data.join("\n")).ok();
        assert_eq!(json.map(|json| json["message"]["a"].clone()), Some(1.into()), "{text:?}");
    }
}

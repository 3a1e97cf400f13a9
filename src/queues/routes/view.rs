//! A message as its readers see it: six keys for everybody, more for administrators.

use crate::queues::javascript::LogLine;
use crate::queues::store::messages::{Attempt, Details, Row};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// A message: exactly these six keys, always, in this order, and behind them its own key, if it has one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = QueueMessage)]
pub struct Message {
    /// The message's id, a UUID of version 7.
    pub id: Uuid,
    /// The queue's name.
    #[schema(example = "myQueue")]
    pub queue: String,
    /// PENDING, INPROGRESS, COMPLETE or ERROR.
    #[schema(value_type = MessageStatus, example = "COMPLETE")]
    pub status: String,
    /// The body as it was sent.
    #[schema(value_type = serde_json::Value, example = json!({"hello": "world"}))]
    pub request: Box<RawValue>,
    /// What the handler resolved with; null unless COMPLETE.
    #[schema(value_type = Option<serde_json::Value>, example = json!({"greeting": "hello world"}))]
    pub result: Option<Box<RawValue>>,
    /// What the handler rejected with; null unless ERROR.
    #[schema(value_type = Option<serde_json::Value>, example = json!(null))]
    pub error: Option<Box<RawValue>>,
    /// What its sender calls it; only if it was pushed with a `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "booking:42")]
    pub key: Option<String>,
}

/// How a message stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "it only describes")]
pub(super) enum MessageStatus {
    /// It waits.
    Pending,
    /// It runs.
    InProgress,
    /// It is done.
    Complete,
    /// It failed.
    Error,
}

impl Message {
    /// The message of a row.
    pub fn of(queue: &str, row: Row) -> Self {
        Self {
            id: row.id,
            queue: queue.to_owned(),
            status: row.status,
            request: row.request.0,
            result: row.result.map(|json| json.0),
            error: row.error.map(|json| json.0),
            key: row.key,
        }
    }
}

/// The admin view of a message.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = FullQueueMessage)]
pub struct FullMessage {
    /// What everybody sees.
    #[serde(flatten)]
    pub message: Message,
    /// How many attempts have begun since it was pushed, or last run again by hand.
    pub attempts: u32,
    /// When it was pushed.
    pub created_at: DateTime<Utc>,
    /// When its last attempt was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it is due, while it waits for a time.
    pub run_at: Option<DateTime<Utc>>,
    /// Higher is claimed first.
    pub priority: i16,
    /// Who runs it now, or ran it last.
    #[schema(example = "worker-1")]
    pub worker: Option<String>,
    /// Every ended attempt, oldest first.
    pub history: Vec<HistoryEntry>,
    /// What the handler logged in the last attempt that ended.
    #[schema(value_type = Vec<LogLine>)]
    pub logs: Box<RawValue>,
    /// The `x-request-id` of the request that it comes of, over whichever handlers, which the log names with its failure;
    /// null when it comes of none.
    #[schema(example = "0198c0de-0000-7000-8000-000000000001")]
    pub request_id: Option<String>,
    /// The trace that it is a part of, which the log names with its failure; null when what pushed it brought none: then its
    /// spans, if there are any, are a trace whose id is the message's own, without dashes.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    pub trace_id: Option<String>,
}

/// One attempt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    /// Its number, from 1.
    pub attempt: i16,
    /// When it was claimed.
    pub started_at: DateTime<Utc>,
    /// When its end was written.
    pub finished_at: DateTime<Utc>,
    /// How it came to its end: completed, rejected, failed, retried (it asked for another try), snoozed (it put the
    /// message off), `not_started`, `given_back` (its worker was told to stop), lost (its worker was lost), refused (the
    /// database would not take what was said).
    #[schema(example = "completed")]
    pub ending: String,
    /// Who ran it.
    #[schema(example = "worker-1")]
    pub worker: Option<String>,
    /// Why it failed; null when it completed the message.
    #[schema(value_type = Option<serde_json::Value>)]
    pub error: Option<Box<RawValue>>,
    /// What the handler logged.
    #[schema(value_type = Vec<LogLine>)]
    pub logs: Box<RawValue>,
}

impl FullMessage {
    /// The admin view of a row.
    pub fn of(queue: &str, row: Row, details: Details, attempts: Vec<Attempt>) -> Self {
        let running = details.claimed_at.is_some();
        let ended = matches!(row.status.as_str(), "COMPLETE" | "ERROR");
        let last = attempts.last();
        let counted = |last: &Attempt| {
            u32::from(last.attempt.unsigned_abs())
                - u32::from(matches!(&*last.ending, "not_started" | "snoozed" | "given_back"))
        };
        let begun = last.map_or(0, counted) + u32::from(running);
        Self {
            attempts: begun,
            created_at: details.created_at,
            started_at: details.claimed_at.or(last.map(|last| last.started_at)),
            finished_at: last.filter(|_| ended).map(|last| last.finished_at),
            run_at: details.run_at,
            priority: -details.rank,
            worker: details.holder.or_else(|| last.and_then(|last| last.worker.clone())),
            request_id: details.request_id,
            trace_id: details.trace_id,
            logs: last.and_then(|last| last.logs.as_ref()).map_or_else(no_logs, |logs| logs.0.clone()),
            history: attempts.into_iter().map(HistoryEntry::of).collect(),
            message: Message::of(queue, row),
        }
    }
}

impl HistoryEntry {
    fn of(attempt: Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            ending: attempt.ending,
            worker: attempt.worker,
            error: attempt.error.map(|json| json.0),
            logs: attempt.logs.map_or_else(no_logs, |logs| logs.0),
        }
    }
}

fn no_logs() -> Box<RawValue> {
    crate::http::json_text::raw(&serde_json::Value::Array(Vec::new()))
}

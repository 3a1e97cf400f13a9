//! The messages of a job as they are sent: statuses, and gaps where some are gone.

use super::store::broadcasts::Broadcast;
use crate::http::json_text::raw;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// What was said about a job.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = JobMessage)]
pub struct Message {
    /// `job_status`; `gap` where messages are past retention, or where none ever were; in the routes without a key
    /// also a request.
    #[serde(rename = "type")]
    #[schema(example = "job_status")]
    pub kind: &'static str,
    /// The job.
    #[schema(example = 1)]
    pub job_id: i64,
    /// Its place in the job's log; only for who reads on from a place. That of a gap is where to read on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub seq: Option<i64>,
    /// `status`, `percent_complete`, `job_timeout` (seconds left) and what else the worker said; the final one
    /// has `termination_type`. Of a gap, the first (`from`) and the last (`to`) number that are not there; for who
    /// asks for what comes after a place beyond the log's end also that (`end`).
    #[schema(value_type = Said)]
    pub message: Box<RawValue>,
}

/// What was said. Further members are the worker's own.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobStatus)]
struct Said {
    /// How the job stands.
    #[schema(example = "AUTHENTICATING")]
    status: Option<String>,
    /// About how much is done.
    #[schema(minimum = 0, maximum = 100, example = 40)]
    percent_complete: Option<f64>,
    /// What the worker says in words.
    #[schema(example = "Signing in")]
    status_message: Option<String>,
    /// How the job ended; only in the final message.
    #[schema(example = "BILLABLE")]
    termination_type: Option<String>,
    /// How many seconds the job has left.
    #[schema(example = 240)]
    job_timeout: Option<i64>,
    /// Of a gap: the first number that is not there.
    from: Option<i64>,
    /// Of a gap: the last number that is not there.
    to: Option<i64>,
    /// Of a place beyond the end of the log: its end.
    end: Option<i64>,
    /// What else the worker said.
    #[serde(flatten)]
    further: HashMap<String, serde_json::Value>,
}

impl Message {
    /// A status, with its place or without.
    pub fn status(broadcast: Broadcast, with_seq: bool) -> Self {
        let Broadcast { job_id, seq, message, .. } = broadcast;
        Self { kind: "job_status", job_id, seq: with_seq.then_some(seq), message: message.0 }
    }

    /// The gap between a reader at `after` and `next`, the first message that was found, in a log whose newest has the
    /// number `newest`; none where they join.
    pub fn gap(job_id: i64, after: i64, newest: i64, next: Option<i64>, with_seq: bool) -> Option<Self> {
        let (seq, message) = match next {
            None if after > newest => (newest, json!({ "from": newest + 1, "to": after, "end": newest })),
            next => {
                let to = next.map_or(newest, |next| next - 1);
                if to <= after {
                    return None;
                }
                (to, json!({ "from": after + 1, "to": to }))
            }
        };
        Some(Self { kind: "gap", job_id, seq: with_seq.then_some(seq), message: raw(&message) })
    }

    /// About how long it is as JSON, in bytes.
    pub fn length(&self) -> usize {
        self.message.get().len() + 100
    }
}

/// What a reader at `after` is sent, of a log whose newest message is `newest` and of which `found` was read:
/// first the gap, if the next message is not there any more, or the place is beyond the end.
pub fn read_on(job_id: i64, after: i64, newest: i64, found: Vec<Broadcast>, with_seq: bool) -> Vec<Message> {
    let gap = Message::gap(job_id, after, newest, found.first().map(|first| first.seq), with_seq);
    gap.into_iter().chain(found.into_iter().map(|found| Message::status(found, with_seq))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(after: i64, newest: i64, found: &[i64]) -> Vec<Message> {
        let found = found.iter().map(|seq| Broadcast {
            job_id: 1,
            seq: *seq,
            message: sqlx::types::Json(raw(&json!({}))),
            is_final: false,
        });
        read_on(1, after, newest, found.collect(), true)
    }

    fn kinds(after: i64, newest: i64, found: &[i64]) -> Vec<String> {
        let messages = read(after, newest, found);
        messages.iter().map(|message| format!("{} {}", message.kind, message.seq.unwrap_or(0))).collect()
    }

    #[test]
    fn a_reader_learns_of_what_is_gone() {
        assert_eq!(kinds(0, 0, &[]), Vec::<String>::new());
        assert_eq!(kinds(2, 2, &[]), Vec::<String>::new());
        assert_eq!(kinds(0, 2, &[1, 2]), ["job_status 1", "job_status 2"]);
        assert_eq!(kinds(0, 5, &[4, 5]), ["gap 3", "job_status 4", "job_status 5"]);
        assert_eq!(kinds(0, 5, &[]), ["gap 5"]);
    }

    #[test]
    fn a_reader_beyond_the_end_learns_where_it_is() {
        assert_eq!(kinds(9, 2, &[]), ["gap 2"]);
        let gap: Vec<String> = read(9, 2, &[]).iter().map(|gap| gap.message.to_string()).collect();
        assert_eq!(gap, [r#"{"end":2,"from":3,"to":9}"#]);
        // What came between the two looks is no end.
        assert_eq!(kinds(2, 1, &[3]), ["job_status 3"]);
        assert_eq!(kinds(i64::MAX, 0, &[]), ["gap 0"]);
    }
}

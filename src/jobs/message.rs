//! The messages of a job as they are sent: statuses, and gaps where some are gone.

use super::store::broadcasts::Broadcast;
use crate::http::json_text::raw;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

/// One element of an answer.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Message {
    /// `job_status`; `gap` where messages are past retention; in the routes without a key also a request.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The job.
    pub job_id: i64,
    /// Its place in the job's log; only for who reads on from a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// `status`, `percent_complete`, `job_timeout` (seconds left) and what else the worker said; the final one
    /// has `termination_type`. Of a gap, the first (`from`) and the last (`to`) number that are gone.
    #[schema(value_type = serde_json::Value)]
    pub message: Box<RawValue>,
}

impl Message {
    /// A status, with its place or without.
    pub fn status(broadcast: &Broadcast, with_seq: bool) -> Self {
        Self {
            kind: "job_status",
            job_id: broadcast.job_id,
            seq: with_seq.then_some(broadcast.seq),
            message: broadcast.message.0.clone(),
        }
    }

    fn gap(job_id: i64, from: i64, to: i64, with_seq: bool) -> Self {
        let message = raw(&json!({ "from": from, "to": to }));
        Self { kind: "gap", job_id, seq: with_seq.then_some(to), message }
    }
}

/// What a reader at `after` is sent, of a log whose newest message is `newest` and of which `found` was read:
/// first the gap, if the next message is not there any more.
pub fn read_on(job_id: i64, after: i64, newest: i64, found: &[Broadcast], with_seq: bool) -> Vec<Message> {
    let next = found.first().map_or(newest + 1, |broadcast| broadcast.seq);
    let gap = (next > after + 1).then(|| Message::gap(job_id, after + 1, next - 1, with_seq));
    gap.into_iter().chain(found.iter().map(|broadcast| Message::status(broadcast, with_seq))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(after: i64, newest: i64, found: &[i64]) -> Vec<String> {
        let found: Vec<Broadcast> = found
            .iter()
            .map(|seq| Broadcast {
                job_id: 1,
                seq: *seq,
                message: sqlx::types::Json(raw(&json!({}))),
                is_final: false,
            })
            .collect();
        let messages = read_on(1, after, newest, &found, true);
        messages.iter().map(|message| format!("{} {}", message.kind, message.seq.unwrap_or(0))).collect()
    }

    #[test]
    fn a_reader_learns_of_what_is_gone() {
        assert_eq!(kinds(0, 0, &[]), Vec::<String>::new());
        assert_eq!(kinds(2, 2, &[]), Vec::<String>::new());
        assert_eq!(kinds(9, 2, &[]), Vec::<String>::new());
        assert_eq!(kinds(0, 2, &[1, 2]), ["job_status 1", "job_status 2"]);
        assert_eq!(kinds(0, 5, &[4, 5]), ["gap 3", "job_status 4", "job_status 5"]);
        assert_eq!(kinds(0, 5, &[]), ["gap 5"]);
    }
}

//! What a worker may say about its job, read from a body.

use super::edge::member;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// How a worker may end a job. `NEVER_STARTED` is not among them: the worker has started it.
const ENDS: [&str; 4] = ["BILLABLE", "USER_DATA_FAILURE", "SITE_INTERACTION_FAILURE", "PROCESS_FAILURE"];
/// Members that are not the worker's to say: the server counts the time.
const OURS: [&str; 5] = ["job_timeout", "lease", "id", "job_id", "type"];

/// A change of a job's status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// The members that are passed on.
    pub(super) members: Map<String, Value>,
}

impl Change {
    /// Reads a change: the members of the document, or those of its `message` (as broadcasts have them).
    ///
    /// # Errors
    /// 422 with the member that is wrong.
    pub(super) fn read(document: Value) -> Result<Self> {
        let Value::Object(mut members) = document else {
            return Err(Error::invalid("", "type", "must be an object"));
        };
        if let Some(Value::Object(message)) = members.get_mut("message") {
            members = std::mem::take(message);
        }
        for name in OURS {
            members.remove(name);
        }
        members.retain(|_, value| !value.is_null());
        text(&members, "status", 100)?;
        text(&members, "status_message", 10_000)?;
        if let Some(percent) = members.get("percent_complete")
            && !percent.as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent))
        {
            return Err(member("percent_complete", "range", "must lie between 0 and 100"));
        }
        if let Some(end) = members.get("termination_type")
            && !end.as_str().is_some_and(|end| ENDS.contains(&end))
        {
            return Err(member("termination_type", "enum", &format!("must be one of {}", ENDS.join(", "))));
        }
        Ok(Self { members })
    }

    /// The status, if the change names one.
    pub(super) fn status(&self) -> Option<&str> {
        self.members.get("status").and_then(Value::as_str)
    }

    /// How it ends the job, if it does.
    pub(super) fn end(&self) -> Option<String> {
        self.members.get("termination_type").and_then(Value::as_str).map(str::to_owned)
    }

    /// What tells it from every other end, if it ends the job: SHA-256 of its members, in the order of their names.
    pub(super) fn end_digest(&self) -> Option<[u8; 32]> {
        self.end()?;
        let text = serde_json::to_vec(&self.members).unwrap_or_default();
        Some(Sha256::digest(text).into())
    }

    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

fn text(members: &Map<String, Value>, name: &str, longest: usize) -> Result<()> {
    match members.get(name) {
        None => Ok(()),
        Some(Value::String(text)) if (1..=longest).contains(&text.chars().count()) => Ok(()),
        Some(_) => Err(member(name, "length", &format!("must be a text of 1 to {longest} characters"))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn either_form_says_the_same_and_further_members_are_kept() {
        let plain =
            Change::read(json!({ "status": "AUTH", "percent_complete": 5, "site": "x", "lease": "1" }));
        let nested = json!({ "type": "job_status", "job_id": 1, "message": { "status": "AUTH", "percent_complete": 5, "site": "x" } });
        assert_eq!(plain.unwrap(), Change::read(nested).unwrap());
        let words = json!({ "status": "AUTH", "message": "words are a member like any other" });
        assert_eq!(Change::read(words).unwrap().members.len(), 2);
        assert!(Change::read(json!({ "termination_type": null, "job_timeout": 5 })).unwrap().is_empty());
    }

    #[test]
    fn the_same_end_has_the_same_digest_however_it_is_written() {
        let digest = |text: &str| Change::read(serde_json::from_str(text).unwrap()).unwrap().end_digest();
        let end = digest(r#"{"termination_type":"BILLABLE","site":{"a":1,"b":2},"lease":"1"}"#);
        assert!(end.is_some());
        assert_eq!(digest(r#"{"message":{"site":{"b":2,"a":1},"termination_type":"BILLABLE"}}"#), end);
        assert_ne!(digest(r#"{"termination_type":"BILLABLE","site":{"a":1,"b":3}}"#), end);
        assert_eq!(digest(r#"{"status":"AUTH"}"#), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            json!([]),
            json!({ "status": "" }),
            json!({ "status": 5 }),
            json!({ "status": "x".repeat(101) }),
            json!({ "percent_complete": 101 }),
            json!({ "percent_complete": "5" }),
            json!({ "termination_type": "NEVER_STARTED" }),
            json!({ "termination_type": "DONE" }),
        ] {
            assert!(Change::read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}

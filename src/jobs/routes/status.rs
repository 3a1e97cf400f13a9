//! What a worker may say about its job, read from a body.

use super::edge::member;
use crate::error::{Error, Result};
use crate::http::idempotency;
use crate::http::json_text::{is, members, to_value};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// How a worker may end a job. `NEVER_STARTED` is not among them: the worker has started it.
const ENDS: [&str; 4] = ["BILLABLE", "USER_DATA_FAILURE", "SITE_INTERACTION_FAILURE", "PROCESS_FAILURE"];
/// Members that are not the worker's to say: the server counts the time.
const OURS: [&str; 5] = ["job_timeout", "lease", "id", "job_id", "type"];

/// Members that say what the job's row keeps too; the server reads these, and passes all others on as they stand.
const KEPT: [&str; 4] = ["status", "status_message", "percent_complete", "termination_type"];

/// A change of a job's status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// The members that the job's row keeps.
    pub(super) kept: Value,
    /// The members that are only passed on, as they stand in an object, without its braces.
    pub(super) further: Option<String>,
}

impl Change {
    /// Reads a change: the members of the document, or those of its `message` (as broadcasts have them).
    ///
    /// # Errors
    /// 422 with the member that is wrong.
    pub(super) fn read(document: &RawValue) -> Result<Self> {
        let not_an_object = || Error::invalid("", "type", "must be an object");
        let mut said = members(document).ok_or_else(not_an_object)?;
        let message = said.iter().rev().find(|(key, _)| is(key, "message"));
        if let Some(message) = message.and_then(|(_, message)| members(message)) {
            said = message;
        }
        let mut kept = Map::new();
        let mut further = Vec::new();
        for (key, value) in said {
            if OURS.iter().any(|ours| is(key, ours)) {
                continue;
            }
            match KEPT.into_iter().find(|kept| is(key, kept)) {
                Some(name) => drop(kept.insert(name.to_owned(), to_value(value.get()).unwrap_or_default())),
                None if value.get() == "null" => {}
                None => further.push(format!("{}:{}", key.get(), value.get())),
            }
        }
        kept.retain(|_, value| !value.is_null());
        text(&kept, "status", 100)?;
        text(&kept, "status_message", 10_000)?;
        if let Some(percent) = kept.get("percent_complete")
            && !percent.as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent))
        {
            return Err(member("percent_complete", "range", "must lie between 0 and 100"));
        }
        if let Some(end) = kept.get("termination_type")
            && !end.as_str().is_some_and(|end| ENDS.contains(&end))
        {
            return Err(member("termination_type", "enum", &format!("must be one of {}", ENDS.join(", "))));
        }
        let further = (!further.is_empty()).then(|| further.join(","));
        Ok(Self { kept: Value::Object(kept), further })
    }

    /// The status, if the change names one.
    pub(super) fn status(&self) -> Option<&str> {
        self.kept["status"].as_str()
    }

    /// How it ends the job, if it does.
    pub(super) fn end(&self) -> Option<String> {
        self.kept["termination_type"].as_str().map(str::to_owned)
    }

    /// Whether it says nothing but a status.
    pub(super) fn is_a_status(&self) -> bool {
        self.further.is_none()
            && self.kept.as_object().is_some_and(|kept| kept.len() == 1 && kept.contains_key("status"))
    }

    /// What tells it from every other end, if it ends the job: the digest of its members, however they are written.
    pub(super) fn end_digest(&self) -> Option<[u8; 32]> {
        self.end()?;
        let mut text = self.kept.to_string();
        if let Some(further) = &self.further {
            text.truncate(text.len() - 1);
            text = format!("{text},{further}}}");
        }
        Some(idempotency::digest("end", &text))
    }

    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.further.is_none() && self.kept.as_object().is_none_or(Map::is_empty)
    }
}

fn text(members: &Map<String, Value>, name: &str, longest: usize) -> Result<()> {
    match members.get(name) {
        None => Ok(()),
        Some(Value::String(text))
            if (1..=longest).contains(&text.chars().count()) && !text.contains('\0') =>
        {
            Ok(())
        }
        Some(_) => Err(member(
            name,
            "length",
            &format!("must be a text of 1 to {longest} characters, without U+0000"),
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::http::json_text::raw;
    use serde_json::json;

    fn read(document: &Value) -> Result<Change> {
        Change::read(&raw(document))
    }

    #[test]
    fn either_form_says_the_same_and_further_members_are_kept() {
        let plain =
            read(&json!({ "status": "AUTH", "percent_complete": 5, "site": "x", "lease": "1" })).unwrap();
        let nested = json!({ "type": "job_status", "job_id": 1, "message": { "status": "AUTH", "percent_complete": 5, "site": "x" } });
        assert_eq!(plain, read(&nested).unwrap());
        assert_eq!(plain.further.as_deref(), Some(r#""site":"x""#));
        let words = json!({ "status": "AUTH", "message": "words are a member like any other" });
        assert!(read(&words).unwrap().further.is_some());
        assert!(read(&json!({ "termination_type": null, "job_timeout": 5, "x": null })).unwrap().is_empty());
        assert!(read(&json!({ "status": "REQUESTED", "lease": "x" })).unwrap().is_a_status());
    }

    #[test]
    fn what_is_only_passed_on_stands_as_it_was_sent() {
        let sent = r#"{"status":"A","z":1e400,"s":"\ud800\u0000","z":123456789012345678901234567890}"#;
        let document: Box<RawValue> = serde_json::from_str(sent).unwrap();
        let further = Change::read(&document).unwrap().further.unwrap();
        assert_eq!(further, r#""z":1e400,"s":"\ud800\u0000","z":123456789012345678901234567890"#);
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
            json!({ "status": "a\0" }),
            json!({ "status": "x".repeat(101) }),
            json!({ "status_message": "a\0" }),
            json!({ "percent_complete": 101 }),
            json!({ "percent_complete": "5" }),
            json!({ "termination_type": "NEVER_STARTED" }),
            json!({ "termination_type": "DONE" }),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}

//! How a job ends whose time is over.

use super::envelope;
use super::store::due::Passed;
use serde_json::{Value, json};

/// The final status of a job of which these deadlines have passed; none when none has. A request to cancel
/// explains more than a question nobody answered, and that more than a job that took too long.
pub fn end_of(passed: &Passed) -> Option<Value> {
    let (status, termination) = if passed.cancel {
        ("CANCELED", "USER_DATA_FAILURE")
    } else if let Some(kind) = &passed.answer {
        (envelope::words(kind).timed_out, "USER_DATA_FAILURE")
    } else if passed.deadline {
        ("VBS_TIMEOUT", "PROCESS_FAILURE")
    } else {
        return None;
    };
    Some(json!({ "status": status, "termination_type": termination }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(passed: &Passed) -> Option<String> {
        end_of(passed).map(|end| format!("{} {}", end["status"], end["termination_type"]).replace('"', ""))
    }

    #[test]
    fn the_deadline_that_explains_most_ends_the_job() {
        let ended = |words: &str| Some(words.to_owned());
        assert_eq!(status(&Passed::default()), None);
        let deadline = Passed { deadline: true, ..Passed::default() };
        assert_eq!(status(&deadline), ended("VBS_TIMEOUT PROCESS_FAILURE"));
        let tfa = Passed { answer: ended("tfa_request"), ..deadline };
        assert_eq!(status(&tfa), ended("TIMEOUT_TFA USER_DATA_FAILURE"));
        let credentials = Passed { answer: ended("credential_request"), ..tfa.clone() };
        assert_eq!(status(&credentials), ended("TIMEOUT_CREDENTIALS USER_DATA_FAILURE"));
        assert_eq!(status(&Passed { cancel: true, ..tfa }), ended("CANCELED USER_DATA_FAILURE"));
    }
}

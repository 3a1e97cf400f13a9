//! What each kind of question makes of its job's status.

/// The statuses around a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// While it waits.
    pub pending: &'static str,
    /// Once it is answered.
    pub answered: &'static str,
    /// When it never was.
    pub timed_out: &'static str,
}

/// The statuses around a question of this kind.
pub fn words(kind: &str) -> Words {
    match kind {
        "tfa_request" => {
            Words { pending: "PENDING_TFA", answered: "TFA_CODE_RECEIVED", timed_out: "TIMEOUT_TFA" }
        }
        "credential_request" => Words {
            pending: "PENDING_NEWCREDS",
            answered: "CREDS_RECEIVED",
            timed_out: "TIMEOUT_CREDENTIALS",
        },
        _ => Words { pending: "PENDING", answered: "RESPONSE_RECEIVED", timed_out: "TIMEOUT_CREDENTIALS" },
    }
}

/// What the answer to a question of this kind is called.
pub fn response_type(kind: &str) -> String {
    format!("{}_response", kind.strip_suffix("_request").unwrap_or(kind))
}

/// Whether an answer may call itself this. Clients in the field use the names of requests and of responses.
pub fn may_answer(kind: &str, answer_type: &str) -> bool {
    let known = ["tfa_response", "credential_response", "tfa_request", "credential_request"];
    known.contains(&answer_type) || answer_type == kind || answer_type == response_type(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_named_after_its_question() {
        assert_eq!(response_type("tfa_request"), "tfa_response");
        assert_eq!(response_type("photo"), "photo_response");
        assert!(may_answer("tfa_request", "credential_request"));
        assert!(may_answer("photo_request", "photo_response"));
        assert!(!may_answer("tfa_request", "job_status"));
        assert_eq!(words("photo_request").pending, "PENDING");
    }
}

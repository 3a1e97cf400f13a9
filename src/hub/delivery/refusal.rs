//! Why an answer is no success, in one word and in a sentence that begins with it and says what would be one.

use super::answer::{Answer, Unreadable};
use crate::http::outbound::{Answer as Reply, Cause};
use axum::http::{HeaderValue, StatusCode, header};
use uuid::Uuid;

/// What a strict mapping wants, for whoever put one to an ordinary receiver of webhooks.
const STRICT: &str = "200 and a JSON body with our message_id";

/// Why this reply to the message `id`, which is not one that the mapping takes, is no success.
pub(super) fn refusal(id: Uuid, reply: &Reply, answer: Result<&Answer, &Unreadable>) -> (Cause, String) {
    let status = reply.status;
    if !status.is_success() {
        return match reply.redirect() {
            Some(failure) => (failure.cause, failure.to_string()),
            None => (Cause::Status, format!("{}: the endpoint answered {status}", Cause::Status)),
        };
    }
    // Whoever answers 2xx has taken the message, and is asked again all the same.
    let (cause, why) = match answer {
        Ok(answer) if answer.acknowledges(id) => (Cause::Status, "where only 200 counts".to_owned()),
        Ok(answer) if answer.names_a_message() => {
            (Cause::OtherMessageId, "and the answer names another message_id than ours".to_owned())
        }
        Ok(_) => (Cause::NoMessageId, "and the answer does not name our message_id".to_owned()),
        Err(_) if reply.body.trim_ascii().is_empty() => {
            (Cause::NoMessageId, "and nothing else, which does not name our message_id".to_owned())
        }
        Err(_) if is_encoded(reply) => {
            (Cause::Encoded, "and the answer has a Content-Encoding, which was not asked for".to_owned())
        }
        Err(error) => (Cause::NotJson, format!("and {error}")),
    };
    let hint = "the mapping is strict: for a service that does not answer so, put \"ack\": \"lenient\" in its options";
    (cause, format!("{cause}: the endpoint answered {}, {why} (wanted: {STRICT}; {hint})", spelt(status)))
}

/// `200 OK`, also where the status has no words.
fn spelt(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(|| status.as_str().to_owned(), |_| status.to_string())
}

fn is_encoded(reply: &Reply) -> bool {
    let plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    !reply.headers.get_all(header::CONTENT_ENCODING).iter().all(plain)
}

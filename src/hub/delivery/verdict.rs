//! What an answer comes to: delivered, put off by the endpoint itself, or failed.

use super::answer::{Answer, Child, Unreadable};
use super::refusal::refusal;
use super::store::ends;
use crate::http::outbound::{Answer as Reply, Cause, Failure};
use crate::http::retry_after::retry_after;
use crate::hub::definitions::endpoint::Wire;
use crate::hub::definitions::mapping::Ack;
use crate::hub::key::Pattern;
use crate::hub::notices::log_entry::{Level, Note};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use std::time::Duration;
use url::Url;
use uuid::Uuid;

/// The most messages that one answer may bring, and the most parameters.
const MOST: usize = 1000;
/// The most notifications of an answer that changes nothing that are kept.
const MOST_COMPLAINTS: usize = 100;
/// An endpoint puts a request off for at least and at most this long.
const DEFERRAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));

/// What was asked of the endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The message that it must acknowledge.
    pub id: Uuid,
    /// What counts as success.
    pub ack: Ack,
    /// How: whoever is sent the bare payload does not know our id, and has nothing to say to the hub.
    pub wire: Wire,
    /// Which messages an answer may bring; absent: any.
    pub allowed: Option<&'a [Pattern]>,
    /// Where it was asked.
    pub url: &'a Url,
    /// The database's time, for a `Retry-After` that is a date.
    pub now: DateTime<Utc>,
}

/// What an attempt came to.
#[derive(Debug)]
pub enum Verdict {
    /// The endpoint took the message.
    Delivered(Delivered),
    /// It wants to be asked again later; that is no failure.
    Deferred {
        /// How much later.
        after: Duration,
        /// Where, if not at the service.
        continue_url: Option<String>,
        /// What it has to say to people.
        notes: Vec<Note>,
    },
    /// Anything else.
    Failed(Failed),
}

impl Verdict {
    /// What made it fail, in one word.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Failed(failed) => failed.cause,
            Self::Delivered(_) | Self::Deferred { .. } => None,
        }
    }

    /// Its word in the table.
    pub fn word(&self) -> ends::Verdict {
        match self {
            Self::Delivered(_) => ends::Verdict::Delivered,
            Self::Deferred { .. } => ends::Verdict::Deferred,
            Self::Failed(_) => ends::Verdict::Failed,
        }
    }
}

/// What a delivery brought back.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Messages to be stored and routed.
    pub children: Vec<Child>,
    /// Parameters to be stored.
    pub parameters: Vec<(String, Box<RawValue>)>,
    /// What it has to say to people.
    pub notes: Vec<Note>,
    /// Whether it said `notification:error`: taken, refused for a reason, and never tried again.
    pub business_error: bool,
}

/// Why an attempt failed.
#[derive(Debug, Default)]
pub struct Failed {
    /// In one word, where it was the endpoint's doing.
    pub cause: Option<Cause>,
    /// In coarse words, after the one.
    pub error: String,
    /// What the endpoint wants the delay raised to.
    pub retry_after: Option<Duration>,
    /// What it has to say to people.
    pub notes: Vec<Note>,
    /// Whether it says that it is gone for good.
    pub gone: bool,
    /// Whether the endpoint did its work, and the same request would only be answered the same again.
    pub is_final: bool,
}

impl Failed {
    /// A failure of these words, without an answer.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }
}

/// Decides what a reply and the answer in its body come to.
pub fn decide(asked: Asked<'_>, reply: Result<(&Reply, Result<Answer, Unreadable>), &Failure>) -> Verdict {
    let (reply, answer) = match reply {
        Ok(read) => read,
        Err(failure) => {
            let is_final = is_answer_too_large(asked.ack, failure);
            let cause = Some(failure.cause);
            return Verdict::Failed(Failed { cause, is_final, ..Failed::new(failure.to_string()) });
        }
    };
    let known =
        asked.wire == Wire::Messages && answer.as_ref().is_ok_and(|answer| answer.acknowledges(asked.id));
    let taken = match asked.ack {
        Ack::Strict => reply.status == StatusCode::OK && known,
        Ack::Lenient => reply.status.is_success(),
    };
    if !taken {
        let (cause, error) = refusal(asked.id, reply, answer.as_ref());
        let retry_after = retry_after(&reply.headers, asked.now);
        let (gone, notes) = (reply.status == StatusCode::GONE, answer.map(complaints).unwrap_or_default());
        let cause = Some(cause);
        return Verdict::Failed(Failed { cause, error, retry_after, notes, gone, is_final: false });
    }
    match answer {
        Ok(answer) if known => acknowledged(asked, answer),
        // Whoever needs no id says something of their own, or nothing.
        _ => Verdict::Delivered(Delivered::default()),
    }
}

/// Whether the endpoint took the request and answered with more than is read of an answer.
fn is_answer_too_large(ack: Ack, failure: &Failure) -> bool {
    failure.cause == Cause::BodyTooLarge
        && failure.status.is_some_and(|status| match ack {
            Ack::Strict => status == StatusCode::OK,
            Ack::Lenient => status.is_success(),
        })
}

fn acknowledged(asked: Asked<'_>, mut answer: Answer) -> Verdict {
    for (what, count) in [
        ("messages", answer.children.len() + answer.notifications.len()),
        ("parameters", answer.parameters.len()),
    ] {
        if count > MOST {
            let error = format!("the answer brings {count} {what}: more than {MOST}");
            return Verdict::Failed(Failed { is_final: true, ..Failed::new(error) });
        }
    }
    if answer.children.is_empty() && (answer.delay.is_some() || answer.update_url.is_some()) {
        return deferred(asked, answer);
    }
    let mut children = std::mem::take(&mut answer.children);
    children.append(&mut answer.notifications);
    let mut notes: Vec<Note> = children.iter().filter_map(Child::note).collect();
    let business_error = notes.iter().any(|note| note.level == Level::Error);
    if answer.unread > 0 {
        let words = format!("{} elements of the answer are no messages and were left out", answer.unread);
        notes.push(Note::new(Level::Warn, "An answer cannot be read in full", words));
    }
    if let Some(allowed) = asked.allowed {
        for child in &mut children {
            if child.parked.is_none() && !allowed.iter().any(|pattern| pattern.matches(&child.key)) {
                child.parked = Some("the mapping does not allow this message in an answer".to_owned());
            }
        }
    }
    Verdict::Delivered(Delivered { children, parameters: answer.parameters, notes, business_error })
}

fn deferred(asked: Asked<'_>, answer: Answer) -> Verdict {
    let after = answer.delay.unwrap_or_default().clamp(DEFERRAL.0, DEFERRAL.1);
    let continue_url = match answer.update_url.as_deref().map(|url| asked.url.join(url)) {
        None => None,
        // The token goes where it leads: to nobody else. The endpoint works on it already: to be asked anew would only
        // have it do that twice.
        Some(Ok(url)) if url.origin() == asked.url.origin() && url.username().is_empty() => Some(url.into()),
        Some(_) => {
            let error = "the endpoint took the message, and its update_url leads to another host: it must be of the \
                         service's own scheme, host and port";
            return Verdict::Failed(Failed {
                notes: complaints(answer),
                is_final: true,
                ..Failed::new(error)
            });
        }
    };
    Verdict::Deferred { after, continue_url, notes: complaints(answer) }
}

/// What an answer that changes nothing has to say to people.
fn complaints(answer: Answer) -> Vec<Note> {
    let mut notes: Vec<Note> =
        answer.notifications.iter().filter_map(Child::note).take(MOST_COMPLAINTS).collect();
    notes.extend(answer.error.map(|error| Note::new(Level::Error, "The endpoint reports an error", error)));
    notes
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;

//! A reason why something is not running: its cause in one word, a sentence, what to do, and the facts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// The longest error in a reason, in characters.
const LONGEST: usize = 500;

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A message of a queue.
    Message,
    /// A delivery of the hub.
    Delivery,
    /// A job.
    Job,
}

/// Why something is not running, as of one moment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Why {
    /// What it is.
    pub kind: ItemKind,
    /// Where it is read.
    #[schema(example = "/queues/myQueue/messages/0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    pub see: String,
    /// Its status.
    #[schema(example = "PENDING")]
    pub status: String,
    /// The moment that this was true, by the database's clock.
    pub at: DateTime<Utc>,
    /// Every reason, the one to look at first in front; none of what has ended.
    pub reasons: Vec<Reason>,
}

impl Why {
    /// An answer with its reasons in their order.
    pub fn new(
        kind: ItemKind,
        see: String,
        status: impl Into<String>,
        at: DateTime<Utc>,
        mut reasons: Vec<Reason>,
    ) -> Self {
        reasons.sort_by_key(|reason| reason.cause);
        Self { kind, see, status: status.into(), at, reasons }
    }
}

/// A cause, in the order in which one looks at them: what nobody mends but a person, what ends by itself, what is as it
/// should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is neither ready, nor scheduled, nor claimed: nobody will ever run it.
    Nowhere,
    /// Delivery: kept aside by a rule until somebody decides.
    Parked,
    /// Message: its queue has no handler.
    NoHandler,
    /// Message: its queue is paused.
    QueuePaused,
    /// Delivery: its mapping is switched off.
    MappingDisabled,
    /// Delivery: its endpoint is switched off.
    EndpointDisabled,
    /// No process lives.
    NoProcess,
    /// Message: no process that lives has its handler.
    NoRunner,
    /// No process that lives has the key that its secrets, or its data, are sealed with.
    NoKey,
    /// Message, job: remote workers are to claim it, and nobody asks.
    NobodyClaims,
    /// Whoever lives does not claim.
    ClaimLoopBehind,
    /// Its worker gives no sign of life.
    WorkerSilent,
    /// Delivery: the address of its endpoint may not be asked.
    AddressNotAllowed,
    /// Delivery: its endpoint, or the service there, failed again and again and is left alone.
    CircuitOpen,
    /// Delivery: one delivery tries whether the endpoint, or the service there, is back.
    ServiceProbing,
    /// Delivery: another of its line is before it.
    Line,
    /// The last attempt failed.
    Backoff,
    /// Delivery: the endpoint took it and is asked for its answer later.
    AnswerAwaited,
    /// Delivery: the endpoint asked for the same again later.
    PutOff,
    /// Delivery: its endpoint takes so many in a time.
    RateLimit,
    /// It is for a later time.
    Scheduled,
    /// Message: an open transaction was told of it, or replaces it, and it starts no sooner than that ends.
    HeldBack,
    /// As many run as may.
    PlacesTaken,
    /// Message: others with a higher priority are before it.
    HigherPriority,
    /// Others that became ready earlier are before it.
    Earlier,
    /// Job: its worker is to end it.
    Cancelling,
    /// Job: it asks its owner.
    AsksOwner,
    /// It runs.
    Running,
    /// Nothing is in its way.
    Due,
}

impl Cause {
    /// Whether something is wrong, so that waiting alone may not help.
    pub fn is_fault(self) -> bool {
        self <= Self::CircuitOpen
    }

    /// Its word.
    pub fn word(self) -> String {
        serde_json::to_value(self).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Something that takes a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Holder {
    /// What runs: a message or a delivery.
    pub item: Uuid,
    /// Who runs it.
    #[schema(example = "worker-1")]
    pub by: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// One reason. Facts that say nothing for this cause are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reason {
    /// Which it is: a word that stays.
    pub cause: Cause,
    /// Whether something is wrong; false where it only has to wait, or runs.
    pub fault: bool,
    /// The reason as a sentence.
    #[schema(example = "The queue mail is paused since 2026-11-28 08:30:00 UTC, by ann.")]
    pub detail: String,
    /// What to look at: an address of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/queues/mail")]
    pub see: Option<String>,
    /// What to do about it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    #[schema(example = "POST /queues/mail/resume")]
    pub act: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Who: a subject, or a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ann")]
    pub by: Option<String>,
    /// The number of the attempt that runs, or that ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub attempt: Option<i32>,
    /// Why the last attempt failed, cut to 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "refused: the server accepts no connection")]
    pub error: Option<String>,
    /// What the cause is about: a handler, an endpoint, a service, a mapping, what is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "warehouse")]
    pub of: Option<String>,
    /// `parked`: the rule that did it: `max_attempts`, `max_age`, `retries_not_allowed`, `loop`, `descendants`,
    /// `mapping_deleted`, `message_gone`, `final_answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "max_attempts")]
    pub rule: Option<String>,
    /// How many are before it, or take places.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub count: Option<i64>,
    /// Whether there are as many as `count` or more: nobody counts beyond 10,000.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub or_more: bool,
    /// Some of those that take the places, those that began first in front.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// The delivery at the head of the line, or the one that tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Uuid>,
    /// What holds up the delivery at the head of the line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind_causes: Vec<Cause>,
}

impl Reason {
    /// A reason with no facts yet.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            fault: cause.is_fault(),
            detail: detail.into(),
            see: None,
            act: None,
            since: None,
            until: None,
            by: None,
            attempt: None,
            error: None,
            of: None,
            rule: None,
            count: None,
            or_more: false,
            holders: Vec::new(),
            behind: None,
            behind_causes: Vec::new(),
        }
    }

    /// With what to look at.
    #[must_use]
    pub fn see(self, see: impl Into<String>) -> Self {
        Self { see: Some(see.into()), ..self }
    }

    /// With what to do.
    #[must_use]
    pub fn act(self, act: impl Into<String>) -> Self {
        Self { act: Some(act.into()), ..self }
    }
}

/// A moment in a sentence.
pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An error as one reads it in a sentence, from its JSON, or what of that was read: name and message where it has them.
pub fn brief(json: &str) -> String {
    let text = |members: &Map<String, Value>, name: &str| {
        members.get(name).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty())
    };
    let said = match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(members)) => match (text(&members, "name"), text(&members, "message")) {
            (Some(name), Some(message)) => format!("{name}: {message}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => json.to_owned(),
        },
        _ => json.to_owned(),
    };
    if said.chars().nth(LONGEST).is_none() {
        return said;
    }
    said.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_said_by_its_name_and_its_message_and_is_never_long() {
        assert_eq!(brief(r#"{"name":"TypeError","message":"no","stack":"…"}"#), "TypeError: no");
        assert_eq!(brief(r#"{"name":"TimeoutError"}"#), "TimeoutError");
        assert_eq!(brief(r#""plain""#), "plain");
        assert_eq!(brief(r#"{"code":7}"#), r#"{"code":7}"#);
        assert_eq!(brief(r#"{"name":"Cut","mess"#), r#"{"name":"Cut","mess"#);
        assert_eq!(brief(&format!("\"{}\"", "ü".repeat(501))).chars().count(), LONGEST);
        assert_eq!(brief(&format!("\"{}\"", "ü".repeat(500))), "ü".repeat(500));
    }

    #[test]
    fn what_is_wrong_stands_before_what_only_waits() {
        let causes = [Cause::Due, Cause::Backoff, Cause::QueuePaused, Cause::Earlier, Cause::CircuitOpen];
        let reasons = causes.map(|cause| Reason::new(cause, "")).to_vec();
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let why = Why::new(ItemKind::Message, String::new(), "PENDING", at, reasons);
        let order: Vec<String> = why.reasons.iter().map(|reason| reason.cause.word()).collect();
        assert_eq!(order, ["queue_paused", "circuit_open", "backoff", "earlier", "due"]);
        let faults: Vec<bool> = why.reasons.iter().map(|reason| reason.fault).collect();
        assert_eq!(faults, [true, true, false, false, false]);
    }
}

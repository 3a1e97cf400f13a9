//! What somebody looks for, and the places where it is.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The most places of one kind in an answer.
pub const PLACES: i64 = 20;
/// The most stores, or queues, that are asked for one thing.
pub const ASKED: i64 = 10_000;

/// What somebody looks for: an id, a number or a name.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// As it was given.
    pub text: String,
    /// The id that it is, if it is one.
    pub id: Option<Uuid>,
    /// The number that it is, if it is one.
    pub number: Option<i64>,
}

impl Wanted {
    /// What this text may be.
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_owned();
        let number = text.parse().ok().filter(|number: &i64| *number > 0);
        Self { id: Uuid::try_parse(&text).ok(), number, text }
    }
}

/// What there is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// A message of a queue.
    Message,
    /// A delivery.
    Delivery,
    /// A message of the hub.
    HubMessage,
    /// A job.
    Job,
    /// A queue.
    Queue,
    /// A store.
    Store,
    /// An endpoint of a store.
    Endpoint,
    /// A mapping of a store.
    Mapping,
    /// A poller of a store.
    Poller,
    /// A kind of jobs.
    JobType,
}

/// What of a thing was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// Its id.
    Id,
    /// Its name.
    Name,
    /// The lease that somebody has of it now.
    Lease,
    /// The idempotency key that it was made with.
    IdempotencyKey,
}

/// A place that leads on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Place {
    /// What it is.
    pub kind: PlaceKind,
    /// Its id, or its name.
    #[schema(example = "0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    pub name: String,
    /// The queue, the store or the kind of jobs that it is in.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[schema(example = "mail")]
    pub within: Option<String>,
    /// What of it was looked for.
    pub by: FoundBy,
    /// Where it is read.
    #[schema(example = "/queues/mail/messages/0193e0b4-7a5c-7d3e-8f4a-2b9c1d0e5f6a")]
    pub see: String,
}

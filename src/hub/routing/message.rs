//! A message of the hub on its way in, and what became of it.

pub use super::lineage::MAX_HOPS;
use super::lineage::Visit;
use crate::hub::parked_by::ParkedBy;
use crate::traces::Context;
use serde_json::value::RawValue;
use std::time::Duration;
use uuid::Uuid;

/// A message that is to be stored and routed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id, made by this process.
    pub id: Uuid,
    /// The store.
    pub store_id: i32,
    /// Its key. One that breaks the grammar is parked.
    pub key: String,
    /// An object, as it was sent.
    pub payload: Box<RawValue>,
    /// What it answers.
    pub parent: Option<Parent>,
    /// How many answers lie between it and a message from outside.
    pub hop: i16,
    /// The message from outside that it comes of; none if it comes from there itself.
    pub root: Option<Uuid>,
    /// What it has come through.
    pub visits: Vec<Visit>,
    /// Why none of its deliveries is sent by itself: each is parked.
    pub held_back: Option<(ParkedBy, String)>,
    /// How long it waits before it is routed; zero is at once.
    pub delay: Duration,
    /// Why it is kept aside instead of routed.
    pub parked: Option<String>,
    /// The span that brought it.
    pub trace: Option<Context>,
}

impl Draft {
    /// A message that comes from outside, and is routed at once.
    pub fn from_outside(id: Uuid, store_id: i32, key: String, payload: Box<RawValue>) -> Self {
        Self {
            id,
            store_id,
            key,
            payload,
            parent: None,
            hop: 0,
            root: None,
            visits: Vec::new(),
            held_back: None,
            delay: Duration::ZERO,
            parked: None,
            trace: None,
        }
    }
}

/// What a message answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The message.
    pub message: Uuid,
    /// Its delivery that was answered.
    pub delivery: Uuid,
}

/// Where a message of the hub stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "hub_message_state", rename_all = "lowercase")]
pub enum State {
    /// To be routed soon.
    Pending,
    /// At least one mapping has it.
    Routed,
    /// No mapping wants it.
    Unrouted,
    /// Kept aside, with a reason.
    Parked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Routed, Self::Unrouted, Self::Parked];

    /// Its word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Routed => "routed",
            Self::Unrouted => "unrouted",
            Self::Parked => "parked",
        }
    }
}

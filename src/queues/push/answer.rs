//! What the requests of pushes are answered.

use crate::error::Violation;
use crate::queues::uniqueness::{Told, Verdict};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What became of the messages of a request.
#[derive(Debug, Default)]
pub struct Done {
    /// Those that were stored.
    pub stored: HashSet<Uuid>,
    /// Those whose values other messages held.
    pub told: HashMap<Uuid, Told>,
}

impl Done {
    /// Whether the request was done now, and not before under its idempotency key.
    pub fn is_new(&self) -> bool {
        !self.stored.is_empty() || !self.told.is_empty()
    }
}

/// What became of one message of a batch.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Pushed {
    /// Stored, or there already.
    Stored {
        /// The message's id.
        id: Uuid,
        /// Where another message holds its value, which the id is of: `existing`, or `replaced`, if that took over what this
        /// one says.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<FormerMessage>, example = "existing")]
        unique: Option<&'static str>,
    },
    /// Refused.
    Refused {
        /// Every violation of the schema; or that its value is held.
        errors: Vec<Violation>,
        /// The message that holds its value.
        #[serde(skip_serializing_if = "Option::is_none")]
        held_by: Option<Uuid>,
    },
}

/// What became of the message that holds the value: nothing (`existing`), or it took over what was pushed (`replaced`).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
pub(in crate::queues) enum FormerMessage {
    /// Nothing.
    Existing,
    /// It took over what was pushed.
    Replaced,
}

/// A batch, and what it is answered if no value of it is held.
#[derive(Debug)]
pub struct Batch {
    /// In the order sent.
    pub answers: Vec<Pushed>,
    /// Whether all or none are stored.
    pub is_atomic: bool,
}

impl Batch {
    /// What it is answered.
    pub fn answers(&self, told: &HashMap<Uuid, Told>) -> Vec<Pushed> {
        let told = |pushed: &Pushed| match pushed {
            Pushed::Stored { id, .. } => told.get(id),
            Pushed::Refused { .. } => None,
        };
        self.answers.iter().map(|pushed| told(pushed).map_or_else(|| pushed.clone(), answered)).collect()
    }
}

fn answered(told: &Told) -> Pushed {
    match told.what {
        Verdict::Existing => Pushed::Stored { id: told.message, unique: Some("existing") },
        Verdict::Replaced => Pushed::Stored { id: told.message, unique: Some("replaced") },
        Verdict::Rejected => Pushed::Refused {
            errors: vec![Violation::new("", "unique", "another message holds its value")],
            held_by: Some(told.message),
        },
    }
}

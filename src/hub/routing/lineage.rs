//! What a message comes of, and when an answer is a step in a circle.
//!
//! Services answer with messages, which go to services. Two mappings of one key whose services answer with that key
//! would send it to and fro, twice as often at every step. So a message carries through which mappings its ancestors
//! went, each with the key it had there, and a mapping that is among them as often as it allows does not get that key
//! once more. What an answer puts off with a `delay` is repeated on purpose: it begins anew.

use crate::hub::definitions::mapping::Mapping;
use std::time::Duration;
use uuid::Uuid;

/// Hops from outside beyond which a message is parked: somebody answers in circles.
pub const MAX_HOPS: i16 = 25;

/// A mapping and the key that it got.
pub type Visit = (i32, String);

/// What a message comes of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The message from outside: itself, if nobody answered with it.
    pub root: Uuid,
    /// How many answers lie between the two.
    pub hop: i16,
    /// What its ancestors went through since then, or since the last that was to wait.
    pub visits: Vec<Visit>,
}

impl Lineage {
    /// That of a message which answers one of this lineage, of this key, at a mapping.
    #[must_use]
    pub fn through(mut self, mapping: i32, key: String) -> Self {
        self.visits.push((mapping, key));
        // Beyond the most it does not matter how many.
        let hop = self.hop.saturating_add(1).min(MAX_HOPS + 1);
        Self { hop, ..self }
    }

    /// What a message of this lineage brings along that is to wait for `delay`.
    pub fn visits_after(&self, delay: Duration) -> Vec<Visit> {
        if delay.is_zero() { self.visits.clone() } else { Vec::new() }
    }
}

/// Why a message of this key is not sent to a mapping once more, if it has come through it too often.
pub fn loops(visits: &[Visit], key: &str, mapping: &Mapping) -> Option<String> {
    let most = mapping.definition.options.revisit;
    let been = visits.iter().filter(|(id, of)| *id == mapping.id && of == key).count();
    (been >= usize::from(most)).then(|| {
        let name = &mapping.name;
        format!(
            "loop: answers have brought {key} back to the mapping {name}, which takes it {most} times in one chain of \
             answers (its option revisit); retry sends it all the same"
        )
    })
}

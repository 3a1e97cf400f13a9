//! What becomes of what lies sealed with other keys than the first, when keys are changed.

use crate::error::is_held;
use std::collections::BTreeMap;

/// What became of one secret that was sealed with another key than the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It is sealed with the first key now.
    Anew,
    /// There is nothing to do any more: it is gone, or somebody else has sealed it with the first key.
    Settled,
    /// None of the keys opens it. This is the name of the one that would.
    Unopened(String),
}

/// What became of the secrets of a table.
#[derive(Debug)]
pub struct Rotated {
    /// The table.
    pub table: &'static str,
    /// How many are sealed with the first key now that were not before.
    pub anew: u64,
    /// How many none of the keys opens, by the name of the key that would.
    pub unopened: BTreeMap<String, u64>,
    /// How many other transactions held for longer than is waited.
    pub held: u64,
}

impl Rotated {
    /// Of this table nothing is known yet.
    pub fn of(table: &'static str) -> Self {
        Self { table, anew: 0, unopened: BTreeMap::new(), held: 0 }
    }

    /// Notes what became of one of its secrets.
    ///
    /// # Errors
    /// The database's, but for the wait for a lock: then the next one may be free.
    pub fn note(&mut self, turn: anyhow::Result<Turn>) -> anyhow::Result<()> {
        match turn {
            Ok(Turn::Anew) => self.anew += 1,
            Ok(Turn::Settled) => {}
            Ok(Turn::Unopened(key)) => *self.unopened.entry(key).or_default() += 1,
            Err(error) if error.downcast_ref().is_some_and(is_held) => self.held += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How many are still sealed with other keys than the first.
    pub fn left(&self) -> u64 {
        self.held + self.unopened.values().sum::<u64>()
    }
}

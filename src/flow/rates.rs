//! The rate limits of lanes. What is claimed reserves its slots in the database, for all processes at once, and waits for
//! them in memory. A lane that has none to give for longer than that is not claimed from.

use super::rate::{HORIZON, Rate};
use super::store::rates;
use crate::db::bounded;
use parking_lot::Mutex;
use sqlx::PgPool;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Whether an item has a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It goes after this time.
    Granted(Duration),
    /// It has none, and comes again after this time.
    Refused(Duration),
}

/// The rate limits of lanes, as this process knows them: until when they have no slots to give.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<i32, Instant>>);

impl Rates {
    /// How many items of a lane may be claimed at once under its rate; `None` while it has no slots to give.
    pub fn room(&self, lane: i32, rate: Rate) -> Option<usize> {
        let is_spent = self.0.lock().get(&lane).is_some_and(|until| Instant::now() < *until);
        (!is_spent).then(|| rate.room())
    }

    /// Reserves slots for so many items of a lane; returns that of each, in their order.
    ///
    /// # Errors
    /// The database's.
    pub async fn reserve(&self, db: &PgPool, lane: i32, rate: Rate, count: usize) -> sqlx::Result<Vec<Slot>> {
        let reserved = bounded(rates::reserve(db, lane, rate, count)).await?;
        if reserved.granted < count {
            let pause = rate.wait(reserved.ahead, reserved.granted).saturating_sub(HORIZON);
            self.0.lock().insert(lane, Instant::now() + pause);
        }
        let slot = |place| {
            let wait = rate.wait(reserved.ahead, place);
            if place < reserved.granted { Slot::Granted(wait) } else { Slot::Refused(wait) }
        };
        Ok((0..count).map(slot).collect())
    }

    /// Forgets the lanes that `keep` does not know.
    pub fn retain(&self, keep: impl Fn(i32) -> bool) {
        self.0.lock().retain(|lane, _| keep(*lane));
    }
}

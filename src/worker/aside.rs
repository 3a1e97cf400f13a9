//! Ends that could not be written with the others: halved until the one is found that stands in the way, while the
//! others go on.
//!
//! An end that is alone and still takes too long, twice, or that the database refuses, gets another that says why.
//! That is written quickly, or not at all, and could have been the first time: a database that cannot do that is slow
//! itself, and the end stays what it is until it can be written. Nor does a lock of somebody's, which passes, cost an
//! end.

use super::Consumer;
use super::flush::{End, Flush, Limit, Trouble, Written};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The pauses of one that is tried again.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// Ends that are tried together.
struct Unit<O> {
    ends: Vec<End<O>>,
    /// Whether the one that is left took too long while another end in its place would not have.
    is_suspect: bool,
    not_before: Instant,
    pause: Duration,
}

impl<O> Unit<O> {
    fn new(ends: Vec<End<O>>) -> Self {
        Self { ends, is_suspect: false, not_before: Instant::now(), pause: SHORTEST }
    }

    fn later(mut self) -> Self {
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        self
    }
}

/// Both halves of ends, of which there is more than one.
fn halves<O>(mut ends: Vec<End<O>>) -> [Vec<End<O>>; 2] {
    let second = ends.split_off(ends.len() / 2);
    [ends, second]
}

/// Writes the ends that come, until nobody sends any and all are written.
pub(super) async fn run<C: Consumer>(
    flush: Arc<Flush<C>>,
    mut received: mpsc::UnboundedReceiver<Vec<End<C::Outcome>>>,
) {
    let mut units: VecDeque<Unit<C::Outcome>> = VecDeque::new();
    let mut is_open = true;
    while is_open || !units.is_empty() {
        let now = Instant::now();
        if let Some(due) = units.iter().position(|unit| unit.not_before <= now)
            && let Some(unit) = units.remove(due)
        {
            units.extend(attempt(&flush, unit).await);
            continue;
        }
        let soonest = units.iter().map(|unit| unit.not_before).min();
        let until = soonest.unwrap_or(now + LONGEST);
        tokio::select! {
            ends = received.recv(), if is_open => match ends {
                Some(ends) if ends.len() > 1 => units.extend(halves(ends).map(Unit::new)),
                Some(ends) => units.push_back(Unit::new(ends)),
                None => is_open = false,
            },
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

/// Tries to write a unit; returns what is left of it.
async fn attempt<C: Consumer>(flush: &Flush<C>, mut unit: Unit<C::Outcome>) -> Vec<Unit<C::Outcome>> {
    let limit = if unit.ends.len() > 1 { Limit::Short } else { Limit::Full };
    let error = match flush.write(&unit.ends, Written::Perhaps, limit).await {
        Ok(wrote) => {
            flush.done(unit.ends, wrote).await;
            return Vec::new();
        }
        Err(error) => error,
    };
    let trouble = Trouble::of(&error);
    tracing::warn!(%error, ends = unit.ends.len(), "cannot write ends that were put aside");
    if unit.ends.len() > 1 && trouble != Trouble::Passing {
        return halves(unit.ends).map(Unit::new).into();
    }
    if matches!(trouble, Trouble::Passing | Trouble::Locked) {
        return vec![unit.later()];
    }
    let end = &unit.ends[0];
    if trouble == Trouble::Slow && !unit.is_suspect {
        // It may have been the database: then another end would take as long.
        unit.is_suspect = flush.could_write_instead(end, &error).await;
        return vec![unit.later()];
    }
    if let Ok(wrote) = flush.write_instead(end, &error).await {
        tracing::error!(item = %end.ended.claim.item, %error, "the database will not take this end: it has another");
        flush.done(unit.ends, wrote).await;
        return Vec::new();
    }
    // Nor anything else: it waits until the database takes one of them.
    unit.is_suspect = false;
    vec![unit.later()]
}

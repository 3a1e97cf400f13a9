//! What could not be had and is tried again: each after a pause that grows, and none before its turn.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The pause after the first try, and the longest one.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// Leases that were tried in vain.
#[derive(Debug, Default)]
pub(super) struct Later(HashMap<Uuid, (Instant, Duration)>);

impl Later {
    /// It was tried in vain just now.
    pub(super) fn put_off(&mut self, id: Uuid, now: Instant) {
        let pause = self.0.get(&id).map_or(FIRST, |(_, pause)| (*pause * 2).min(LONGEST));
        self.0.insert(id, (now + pause, pause));
    }

    /// It need not be tried again.
    pub(super) fn forget(&mut self, id: Uuid) {
        self.0.remove(&id);
    }

    /// All that are to be tried again.
    pub(super) fn all(&self) -> Vec<Uuid> {
        self.0.keys().copied().collect()
    }

    /// At most `count` whose time has come, those first that have waited longest.
    pub(super) fn due(&self, now: Instant, count: usize) -> Vec<Uuid> {
        let mut due: Vec<(Instant, Uuid)> =
            self.0.iter().filter(|(_, (at, _))| *at <= now).map(|(id, (at, _))| (*at, *id)).collect();
        due.sort_unstable();
        due.into_iter().take(count).map(|(_, id)| id).collect()
    }

    /// Whether the time of any has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// When the time of the first comes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_tried_again_in_its_turn_and_ever_more_rarely() {
        let (start, mut later) = (Instant::now(), Later::default());
        let ids: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        for (place, id) in ids.iter().enumerate() {
            later.put_off(*id, start + FIRST * u32::try_from(place).unwrap_or(0));
        }
        assert!(later.due(start, 9).is_empty() && !later.is_due(start));
        let then = start + FIRST * 3;
        assert_eq!(later.due(then, 2), ids[..2]);
        // The first is tried in vain again: the others come before it.
        later.put_off(ids[0], then);
        assert_eq!(later.due(then + FIRST * 2, 9), [ids[1], ids[2], ids[0]]);
        later.forget(ids[1]);
        assert_eq!(later.all().len(), 2);
        for _ in 0..20 {
            later.put_off(ids[0], then);
        }
        assert!(later.due(then + LONGEST, 9).contains(&ids[0]));
    }
}

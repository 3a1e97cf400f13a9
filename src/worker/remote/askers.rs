//! Who last asked for items of each lane, noted for those who want to know whether anybody does.
//!
//! A note is one statement for all lanes, at most every ten seconds while somebody asks, and nobody waits for it.

use crate::db::bounded;
use crate::worker::store::{self, Asker};
use sqlx::postgres::PgPool;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A lane is noted this often while somebody asks for it.
const PAUSE: Duration = Duration::from_secs(10);

/// The lanes of one waiting room that somebody has asked for.
#[derive(Debug, Default)]
pub(super) struct Askers {
    lanes: HashMap<i32, Last>,
}

/// The last who asked for a lane.
#[derive(Debug)]
struct Last {
    holder: String,
    at: Instant,
    noted: Option<Instant>,
}

impl Askers {
    /// `holder` asks for the lane now, or goes on waiting.
    pub(super) fn ask(&mut self, lane: i32, holder: &str, now: Instant) {
        let last =
            self.lanes.entry(lane).or_insert_with(|| Last { holder: String::new(), at: now, noted: None });
        last.at = now;
        if last.holder != holder {
            holder.clone_into(&mut last.holder);
        }
    }

    /// What is to be noted now; it counts as noted. Lanes for which nobody asks any more are forgotten.
    pub(super) fn news(&mut self, now: Instant) -> Vec<Asker> {
        let mut news = Vec::new();
        for (lane, last) in &mut self.lanes {
            let is_news = last.noted.is_none_or(|noted| last.at > noted && now >= noted + PAUSE);
            if is_news {
                last.noted = Some(now);
                news.push(Asker { lane: *lane, holder: last.holder.clone(), ago: now - last.at });
            }
        }
        self.lanes.retain(|_, last| now < last.at + 6 * PAUSE);
        news
    }
}

/// Notes who asked.
pub(super) async fn note(pool: PgPool, news: Vec<Asker>) {
    if let Err(error) = bounded(store::note_askers(&pool, &news)).await {
        tracing::debug!(%error, "cannot note who asks for work; the next note tells it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(askers: &mut Askers, now: Instant) -> Vec<(i32, String, u64)> {
        let mut news: Vec<_> = askers
            .news(now)
            .into_iter()
            .map(|asker| (asker.lane, asker.holder, asker.ago.as_secs()))
            .collect();
        news.sort();
        news
    }

    #[test]
    fn the_first_who_asks_is_noted_at_once_and_the_others_every_ten_seconds() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut askers = Askers::default();
        askers.ask(1, "ann", start);
        assert_eq!(noted(&mut askers, start), [(1, "ann".to_owned(), 0)]);
        askers.ask(1, "bob", after(4));
        askers.ask(2, "bob", after(4));
        assert_eq!(noted(&mut askers, after(5)), [(2, "bob".to_owned(), 1)]);
        assert_eq!(noted(&mut askers, after(10)), [(1, "bob".to_owned(), 6)]);
        assert!(noted(&mut askers, after(60)).is_empty(), "nobody has asked since");
    }

    #[test]
    fn lanes_for_which_nobody_asks_are_forgotten() {
        let start = Instant::now();
        let mut askers = Askers::default();
        askers.ask(1, "ann", start);
        askers.news(start + Duration::from_mins(1));
        assert!(askers.lanes.is_empty());
    }
}

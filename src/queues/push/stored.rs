//! What follows a commit: the engine is woken, messages are counted, requests are answered.

use super::Loop;
use super::request::Request;
use crate::queues::metrics;
use crate::queues::store::pushes::Stored;
use crate::queues::uniqueness::Verdict;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

impl Loop {
    /// Wakes the engine, counts, and answers the requests.
    pub(super) fn stored(&self, requests: Vec<Request>, stored: &Stored) {
        let kept: HashSet<Uuid> = stored.stored.iter().copied().collect();
        let mut queues: HashMap<i32, News> = HashMap::new();
        let mut soonest: Option<Duration> = None;
        for push in requests.iter().flat_map(|request| &*request.pushes) {
            let told = stored.told.get(&push.id).map(|told| told.what);
            if told.is_none() && !kept.contains(&push.id) {
                continue;
            }
            let news = queues.entry(push.queue_id).or_default();
            news.stored += u64::from(told.is_none());
            news.told.extend(told);
            if matches!(told, Some(Verdict::Existing | Verdict::Rejected)) {
                continue;
            }
            if push.delay.is_zero() {
                news.lowest = Some(news.lowest.map_or(push.rank, |lowest| lowest.min(push.rank)));
            } else {
                soonest = Some(soonest.map_or(push.delay, |delay| delay.min(push.delay)));
            }
        }
        for (id, News { stored, told, lowest }) in queues {
            if let Some(rank) = lowest {
                self.wake.ready(id, rank);
            }
            if let Some(queue) = self.catalog.by_id(id) {
                metrics::pushed(&queue, stored);
                metrics::told(&queue, &told);
            }
        }
        if let Some(delay) = soonest {
            self.wake.due_after(delay);
        }
        for request in requests {
            request.answer(&kept, stored);
        }
    }
}

/// What one statement stored in a queue.
#[derive(Default)]
struct News {
    stored: u64,
    /// What became of those whose values were held.
    told: Vec<Verdict>,
    /// The lowest rank among what is ready at once.
    lowest: Option<i16>,
}

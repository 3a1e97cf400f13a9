//! What is counted of each queue, for Prometheus; and what is measured when somebody asks.
//!
//! The series of a queue are looked up once a batch, since they may be forgotten (`http::metrics`). To find them by
//! their labels for each message would cost more than to count it.

use super::catalog::{Catalog, Queue};
use super::outcome::{End, Next};
use super::store::depths;
use super::uniqueness::Verdict;
use crate::db::Database;
use crate::http::metrics::{forget, install};
use crate::worker::LOST_CLAIMS;
use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Messages that this process stored, by `queue`. What SQL enqueues is not among them.
const PUSHED: &str = "postrider_messages_pushed_total";
/// Pushes to this process whose value another message held, by `queue` and `outcome`: existing, replaced or rejected.
const HELD: &str = "postrider_unique_pushes_total";
/// Attempts whose end this process wrote, by `queue` and `outcome`: completed, failed, retried, snoozed or lost.
const ATTEMPTS: &str = "postrider_attempts_total";
/// From the claim until the end was about to be written, in seconds, by `queue`.
const DURATION: &str = "postrider_attempt_duration_seconds";
/// Items that are claimed by this process and not ended.
const BUSY: &str = "postrider_busy";
/// Messages that may be claimed now, by `queue`, over all processes.
const READY: &str = "postrider_queue_ready";
/// Messages that wait for their time, by `queue`, over all processes.
const SCHEDULED: &str = "postrider_queue_scheduled";

/// How long the oldest message has waited that may be claimed now, in seconds, by `queue`.
const OLDEST: &str = "postrider_queue_oldest_ready_seconds";
/// Connections of a pool, in use or not, by `pool`.
const CONNECTIONS: &str = "postrider_pool_connections";
/// Those that nobody uses now, by `pool`.
const UNUSED: &str = "postrider_pool_idle_connections";

/// How an attempt may end, as [`ATTEMPTS`] tells it.
const OUTCOMES: [&str; 5] = ["completed", "failed", "retried", "snoozed", "lost"];

/// A measurement of the depths holds at least this long, and so long that at most a twentieth of one
/// connection's time goes into it.
const HOLDS: Duration = Duration::from_secs(5);

/// Counts messages that this process stored in `queue`.
pub(super) fn pushed(queue: &Queue, messages: u64) {
    describe();
    counter!(PUSHED, "queue" => queue.name.clone()).increment(messages);
}

/// Counts pushes to `queue` whose values were held.
pub(super) fn told(queue: &Queue, verdicts: &[Verdict]) {
    describe();
    for verdict in verdicts {
        let outcome = match verdict {
            Verdict::Existing => "existing",
            Verdict::Replaced => "replaced",
            Verdict::Rejected => "rejected",
        };
        counter!(HELD, "queue" => queue.name.clone(), "outcome" => outcome).increment(1);
    }
}

/// What one settlement counts.
#[derive(Default)]
pub(super) struct Tally(HashMap<i32, Counted>);

struct Counted {
    queue: Arc<Queue>,
    outcomes: [u64; OUTCOMES.len()],
    duration: Histogram,
}

impl Tally {
    /// An attempt that ended so, after `took`.
    pub(super) fn attempt(&mut self, queue: &Arc<Queue>, end: &End, next: &Next<'_>, took: Duration) {
        let counted = self.0.entry(queue.id).or_insert_with(|| Counted {
            queue: Arc::clone(queue),
            outcomes: [0; OUTCOMES.len()],
            duration: histogram!(DURATION, "queue" => queue.name.clone()),
        });
        let [completed, failed, retried, snoozed, lost] = &mut counted.outcomes;
        let outcome = match (end, next) {
            // How long it took to find out says nothing about the handler.
            (End::Lost, _) => return *lost += 1,
            // Its process is about to end, and its counters with it.
            (End::GivenBack, _) => return,
            (_, Next::Complete(_)) => completed,
            (_, Next::Error(_)) => failed,
            (End::Later(..), Next::Again { .. }) => snoozed,
            (_, Next::Again { .. }) => retried,
        };
        *outcome += 1;
        counted.duration.record(took);
    }

    /// Counts it. It is counted before the commit, so once more in the rare case that that fails and is repeated.
    pub(super) fn count(self) {
        describe();
        for Counted { queue, outcomes, .. } in self.0.into_values() {
            for (outcome, attempts) in OUTCOMES.into_iter().zip(outcomes) {
                // Also those that did not happen: a rate needs the 0 before the 1.
                counter!(ATTEMPTS, "queue" => queue.name.clone(), "outcome" => outcome).increment(attempts);
            }
        }
    }
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install();
        describe_counter!(PUSHED, Unit::Count, "Messages stored by this process");
        describe_counter!(HELD, Unit::Count, "Pushes to this process whose value another message held");
        describe_counter!(ATTEMPTS, Unit::Count, "Attempts whose end this process wrote");
        describe_histogram!(DURATION, Unit::Seconds, "Time from the claim of an attempt to its end");
        describe_counter!(LOST_CLAIMS, Unit::Count, "Ends that came after their lease was over");
        describe_gauge!(BUSY, Unit::Count, "Items that this process has claimed and not ended");
        describe_gauge!(READY, Unit::Count, "Messages that may be claimed now");
        describe_gauge!(SCHEDULED, Unit::Count, "Messages that wait for their time");
        describe_gauge!(OLDEST, Unit::Seconds, "Age of the oldest message that may be claimed now");
        describe_gauge!(CONNECTIONS, Unit::Count, "Connections to the database");
        describe_gauge!(UNUSED, Unit::Count, "Connections to the database that nobody uses now");
        counter!(LOST_CLAIMS).increment(0);
    });
}

/// The gauges, set when somebody asks for them.
pub struct Depths {
    db: Database,
    catalog: Arc<Catalog>,
    busy: Box<dyn Fn() -> usize + Send + Sync>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// When the depths were measured, and how long that took.
    measured: Option<(Instant, Duration)>,
    /// The queues whose gauges were set, and do not say 0.
    deep: HashMap<i32, Arc<Queue>>,
    /// All queues there were.
    known: HashMap<i32, String>,
}

impl Depths {
    /// The depths of these queues; `busy` tells how many items this process has claimed and not ended.
    pub fn new(
        db: Database,
        catalog: Arc<Catalog>,
        busy: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Self {
        describe();
        Self { db, catalog, busy: Box::new(busy), last: Mutex::default() }
    }

    /// Sets the gauges. The depths are measured anew only now and then; while another measures, and when the
    /// database does not answer, they stay as they were.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    pub async fn measure(&self) {
        gauge!(BUSY).set((self.busy)() as f64);
        for (name, pool) in
            [("api", &self.db.api), ("worker", &self.db.worker), ("heartbeat", &self.db.heartbeat)]
        {
            gauge!(CONNECTIONS, "pool" => name).set(f64::from(pool.size()));
            gauge!(UNUSED, "pool" => name).set(pool.num_idle() as f64);
        }
        let Ok(mut last) = self.last.try_lock() else { return };
        last.forget_deleted(&self.catalog);
        if last.measured.is_some_and(|(at, took)| at.elapsed() < HOLDS.max(took * 20)) {
            return;
        }
        let started = Instant::now();
        let rows = depths::read(&self.db.api).await;
        last.measured = Some((started, started.elapsed()));
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return tracing::debug!(%error, "cannot measure how deep the queues are"),
        };
        let mut former = std::mem::take(&mut last.deep);
        for row in rows {
            // One that another process defined just now: the next time.
            let Some(queue) = self.catalog.by_id(row.queue_id) else { continue };
            set(&queue, row.ready as f64, row.scheduled as f64, row.oldest_seconds);
            former.remove(&row.queue_id);
            last.deep.insert(row.queue_id, queue);
        }
        for queue in former.into_values().filter(|queue| self.catalog.has(queue.id)) {
            set(&queue, 0.0, 0.0, 0.0);
        }
    }
}

impl Last {
    /// The series of a queue go with it.
    fn forget_deleted(&mut self, catalog: &Catalog) {
        let mut known = HashMap::new();
        catalog.each(|queue| _ = known.insert(queue.id, queue.name.clone()));
        for name in self.known.iter().filter(|(id, _)| !known.contains_key(id)).map(|(_, name)| name) {
            forget("queue", name);
        }
        self.known = known;
    }
}

fn set(queue: &Queue, ready: f64, scheduled: f64, oldest: f64) {
    for (name, value) in [(READY, ready), (SCHEDULED, scheduled), (OLDEST, oldest)] {
        gauge!(name, "queue" => queue.name.clone()).set(value);
    }
}

//! What is counted of each queue, for Prometheus; and what is measured when somebody asks.
//!
//! The series of a queue are looked up once, when its definition is compiled. To find them by their labels for
//! each message would cost more than to count it.

use super::catalog::{Catalog, Queue};
use super::outcome::{End, Next};
use super::store::depths;
use crate::db::Database;
use crate::http::metrics::install;
use crate::worker::LOST_CLAIMS;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Messages that this process stored, by `queue`. What SQL enqueues is not among them.
const PUSHED: &str = "postrider_messages_pushed_total";
/// Attempts whose end this process wrote, by `queue` and `outcome`: completed, failed, retried or lost.
const ATTEMPTS: &str = "postrider_attempts_total";
/// From the claim until the end was about to be written, in seconds, by `queue`.
const DURATION: &str = "postrider_attempt_duration_seconds";
/// Items that are claimed by this process and not ended.
const BUSY: &str = "postrider_busy";
/// Messages that may be claimed now, by `queue`, over all processes; a million stands for more.
const READY: &str = "postrider_queue_ready";
/// Messages that wait for their time, by `queue`, over all processes.
const SCHEDULED: &str = "postrider_queue_scheduled";

/// A measurement of the depths holds at least this long, and so long that at most a twentieth of one
/// connection's time goes into it.
const HOLDS: Duration = Duration::from_secs(5);

/// The series of one queue.
#[derive(Debug)]
pub struct Series {
    pub(super) pushed: Counter,
    completed: Counter,
    failed: Counter,
    retried: Counter,
    lost: Counter,
    duration: Histogram,
    ready: Gauge,
    scheduled: Gauge,
}

impl Series {
    /// The series of the queue of this name.
    pub(super) fn of(queue: &str) -> Self {
        describe();
        let attempts =
            |outcome: &'static str| counter!(ATTEMPTS, "queue" => queue.to_owned(), "outcome" => outcome);
        Self {
            pushed: counter!(PUSHED, "queue" => queue.to_owned()),
            completed: attempts("completed"),
            failed: attempts("failed"),
            retried: attempts("retried"),
            lost: attempts("lost"),
            duration: histogram!(DURATION, "queue" => queue.to_owned()),
            ready: gauge!(READY, "queue" => queue.to_owned()),
            scheduled: gauge!(SCHEDULED, "queue" => queue.to_owned()),
        }
    }

    /// Counts an attempt that ended so, after `took`.
    pub(super) fn attempt(&self, end: &End, next: &Next<'_>, took: Duration) {
        let counter = match (end, next) {
            // How long it took to find out says nothing about the handler.
            (End::Lost, _) => return self.lost.increment(1),
            // Its process is about to end, and its counters with it.
            (End::GivenBack, _) => return,
            (_, Next::Complete(_)) => &self.completed,
            (_, Next::Error(_)) => &self.failed,
            (_, Next::Again { .. }) => &self.retried,
        };
        counter.increment(1);
        self.duration.record(took);
    }
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install();
        describe_counter!(PUSHED, Unit::Count, "Messages stored by this process");
        describe_counter!(ATTEMPTS, Unit::Count, "Attempts whose end this process wrote");
        describe_histogram!(DURATION, Unit::Seconds, "Time from the claim of an attempt to its end");
        describe_counter!(LOST_CLAIMS, Unit::Count, "Ends that came after their lease was over");
        describe_gauge!(BUSY, Unit::Count, "Items that this process has claimed and not ended");
        describe_gauge!(READY, Unit::Count, "Messages that may be claimed now; a million stands for more");
        describe_gauge!(SCHEDULED, Unit::Count, "Messages that wait for their time");
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
    /// The queues whose gauges were set.
    queues: HashMap<i32, Arc<Queue>>,
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
        let Ok(mut last) = self.last.try_lock() else { return };
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
        for (_, gone) in last.queues.drain() {
            gone.series.ready.set(0.0);
            gone.series.scheduled.set(0.0);
        }
        for row in rows {
            // One that another process defined just now: the next time.
            let Some(queue) = self.catalog.by_id(row.queue_id) else { continue };
            queue.series.ready.set(row.ready as f64);
            queue.series.scheduled.set(row.scheduled as f64);
            last.queues.insert(row.queue_id, queue);
        }
    }
}

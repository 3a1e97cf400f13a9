//! What is counted of deliveries, for Prometheus; and what is measured of each store when somebody asks.

use super::store::depths::{self, Depth};
use super::store::ends::Verdict;
use crate::db::Database;
use crate::http::metrics::{forget, install};
use crate::hub::definitions::endpoint::Endpoint;
use metrics::{
    Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Attempts whose end this process wrote, by `store`, `endpoint` and `verdict` (delivered, failed, deferred, returned or
/// lost), and those that failed by `cause` too, where it was the endpoint's doing.
const ATTEMPTS: &str = "postrider_delivery_attempts_total";
/// From the request to the end of the answer, in seconds, by `store` and `endpoint`.
const DURATION: &str = "postrider_delivery_duration_seconds";

/// Deliveries that may be claimed now or wait for another attempt, by `store`, over all processes; 100,000 an endpoint
/// stand for more.
const PENDING: &str = "postrider_deliveries_pending";
/// Deliveries that are parked and not archived, by `store`; 10,000 stand for more.
const PARKED: &str = "postrider_deliveries_parked";
/// The age of the oldest delivery that may be claimed now, in seconds, by `store`.
const OLDEST: &str = "postrider_deliveries_oldest_ready_seconds";
/// Endpoints, and services of others, that are left alone since they fail, by `store`.
const OPEN: &str = "postrider_open_circuits";

/// A measurement holds at least this long, and so long that at most a twentieth of one connection's time goes into it.
const HOLDS: Duration = Duration::from_secs(5);

/// What one settlement counts. An endpoint's meters are looked up once, however many attempts it had.
#[derive(Default)]
pub(super) struct Tally(HashMap<i32, Counted>);

struct Counted {
    endpoint: Arc<Endpoint>,
    duration: Histogram,
    verdicts: BTreeMap<(&'static str, Option<&'static str>), u64>,
}

impl Tally {
    pub(super) fn attempt(
        &mut self,
        endpoint: &Arc<Endpoint>,
        verdict: Verdict,
        cause: Option<&'static str>,
        took: Duration,
    ) {
        let counted = self.0.entry(endpoint.id).or_insert_with(|| Counted::of(endpoint));
        counted.duration.record(took);
        let verdict = match verdict {
            Verdict::Delivered => "delivered",
            Verdict::Failed => "failed",
            Verdict::Deferred => "deferred",
            Verdict::Returned => "returned",
            Verdict::Lost => "lost",
        };
        *counted.verdicts.entry((verdict, cause)).or_default() += 1;
    }

    /// Counts it. It is counted before the commit, so once more in the rare case that that is repeated.
    pub(super) fn count(self) {
        for Counted { endpoint, verdicts, .. } in self.0.into_values() {
            for ((verdict, cause), attempts) in verdicts {
                let (store, name) = (endpoint.store.clone(), endpoint.name.clone());
                let mut labels = vec![
                    Label::new("store", store),
                    Label::new("endpoint", name),
                    Label::new("verdict", verdict),
                ];
                labels.extend(cause.map(|cause| Label::new("cause", cause)));
                counter!(ATTEMPTS, labels).increment(attempts);
            }
        }
    }
}

impl Counted {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            install();
            describe_counter!(ATTEMPTS, Unit::Count, "Delivery attempts whose end this process wrote");
            describe_histogram!(
                DURATION,
                Unit::Seconds,
                "Time from a service request to the end of its answer"
            );
        });
        let (store, name) = (endpoint.store.clone(), endpoint.name.clone());
        let duration = histogram!(DURATION, "store" => store, "endpoint" => name);
        Self { endpoint: Arc::clone(endpoint), duration, verdicts: BTreeMap::new() }
    }
}

/// The gauges, set when somebody asks for them.
pub struct Depths {
    db: Database,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// When they were measured, and how long that took.
    measured: Option<(Instant, Duration)>,
    /// The stores that have gauges.
    shown: HashSet<String>,
}

impl Depths {
    /// The depths of all stores.
    pub fn new(db: Database) -> Self {
        install();
        describe_gauge!(
            PENDING,
            Unit::Count,
            "Deliveries that may be claimed now or wait for another attempt"
        );
        describe_gauge!(PARKED, Unit::Count, "Deliveries that are parked; 10,000 stand for more");
        describe_gauge!(OLDEST, Unit::Seconds, "Age of the oldest delivery that may be claimed now");
        describe_gauge!(OPEN, Unit::Count, "Endpoints and services that are left alone since they fail");
        Self { db, last: Mutex::default() }
    }

    /// Sets the gauges. They are measured anew only now and then; while another measures, and when the
    /// database does not answer, they stay as they were.
    pub async fn measure(&self) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.measured.is_some_and(|(at, took)| at.elapsed() < HOLDS.max(took * 20)) {
            return;
        }
        let started = Instant::now();
        let rows = depths::read(&self.db.api).await;
        last.measured = Some((started, started.elapsed()));
        match rows {
            Ok(rows) => last.show(&rows),
            Err(error) => tracing::debug!(%error, "cannot measure how much the hub has to deliver"),
        }
    }
}

impl Last {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn show(&mut self, rows: &[Depth]) {
        let mut gone = std::mem::take(&mut self.shown);
        for Depth { store, pending, parked, open, oldest_seconds } in rows {
            let known = gone.remove(store);
            if !known && pending + parked + open == 0 {
                // There from its first use.
                continue;
            }
            for (name, value) in [
                (PENDING, *pending as f64),
                (PARKED, *parked as f64),
                (OPEN, *open as f64),
                (OLDEST, *oldest_seconds),
            ] {
                gauge!(name, "store" => store.clone()).set(value);
            }
            self.shown.insert(store.clone());
        }
        for store in gone {
            forget("store", &store);
        }
    }
}

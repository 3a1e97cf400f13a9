//! What is counted of deliveries, for Prometheus.

use super::endpoint::Endpoint;
use super::store::ends::Verdict;
use crate::http::metrics::install;
use metrics::{Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Once};
use std::time::Duration;

/// Attempts whose end this process wrote, by `store`, `endpoint` and `verdict`: delivered, failed, deferred or lost.
const ATTEMPTS: &str = "postrider_delivery_attempts_total";
/// From the request to the end of the answer, in seconds, by `store` and `endpoint`.
const DURATION: &str = "postrider_delivery_duration_seconds";

/// What one settlement counts. An endpoint's meters are looked up once, however many attempts it had.
#[derive(Default)]
pub(super) struct Tally(HashMap<i32, Counted>);

struct Counted {
    endpoint: Arc<Endpoint>,
    duration: Histogram,
    verdicts: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn attempt(&mut self, endpoint: &Arc<Endpoint>, verdict: Verdict, took: Duration) {
        let counted = self.0.entry(endpoint.id).or_insert_with(|| Counted::of(endpoint));
        counted.duration.record(took);
        let verdict = match verdict {
            Verdict::Delivered => "delivered",
            Verdict::Failed => "failed",
            Verdict::Deferred => "deferred",
            Verdict::Returned => "returned",
            Verdict::Lost => "lost",
        };
        *counted.verdicts.entry(verdict).or_default() += 1;
    }

    /// Counts it. It is counted before the commit, so once more in the rare case that that is repeated.
    pub(super) fn count(self) {
        for Counted { endpoint, verdicts, .. } in self.0.into_values() {
            for (verdict, attempts) in verdicts {
                let (store, name) = (endpoint.store.clone(), endpoint.name.clone());
                counter!(ATTEMPTS, "store" => store, "endpoint" => name, "verdict" => verdict)
                    .increment(attempts);
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

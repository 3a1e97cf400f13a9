//! What is counted of deliveries, for Prometheus.

use super::endpoint::Endpoint;
use super::verdict::Verdict;
use crate::http::metrics::install;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use std::sync::Once;
use std::time::Duration;

/// Attempts whose end this process wrote, by `store`, `endpoint` and `verdict`: delivered, failed or deferred.
const ATTEMPTS: &str = "postrider_delivery_attempts_total";
/// From the request to the end of the answer, in seconds, by `store` and `endpoint`.
const DURATION: &str = "postrider_delivery_duration_seconds";

/// Counts an attempt. It is counted before the commit, so once more in the rare case that that is repeated.
pub(super) fn attempt(endpoint: &Endpoint, verdict: &Verdict, took: Duration) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install();
        describe_counter!(ATTEMPTS, Unit::Count, "Delivery attempts whose end this process wrote");
        describe_histogram!(DURATION, Unit::Seconds, "Time from a service request to the end of its answer");
    });
    let verdict = match verdict {
        Verdict::Delivered(_) => "delivered",
        Verdict::Failed(_) => "failed",
        Verdict::Deferred { .. } => "deferred",
    };
    let (store, name) = (endpoint.store.clone(), endpoint.name.clone());
    counter!(ATTEMPTS, "store" => store.clone(), "endpoint" => name.clone(), "verdict" => verdict)
        .increment(1);
    histogram!(DURATION, "store" => store, "endpoint" => name).record(took);
}

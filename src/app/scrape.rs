//! What `/metrics` measures when it is asked, and whom it answers.

use crate::auth::role::{HUB_ADMIN, METRICS_READER, QUEUE_ADMIN, SYSTEM_ADMIN};
use crate::auth::{self, Verifier};
use crate::config::Metrics;
use crate::http::metrics::{Holdups, OnScrape};
use crate::queues::metrics::Depths;
use crate::{hub, jobs};
use std::sync::Arc;

/// The roles that may read `/metrics`.
const METRICS_READERS: [&str; 4] = [METRICS_READER, QUEUE_ADMIN, HUB_ADMIN, SYSTEM_ADMIN];

/// Has the gauges of every feature, and of what holds the database up, measured when somebody asks for the metrics.
pub(super) fn measure(
    of_queues: Depths,
    of_jobs: jobs::depths::Depths,
    of_hub: hub::delivery::metrics::Depths,
    of_others: Holdups,
) -> OnScrape {
    let all = Arc::new((of_queues, of_jobs, of_hub, of_others));
    OnScrape::new(move || {
        let all = Arc::clone(&all);
        Box::pin(async move {
            _ = tokio::join!(all.0.measure(), all.1.measure(), all.2.measure(), all.3.measure());
        })
    })
}

/// Lets those read the metrics whose token has a role for it, if the settings ask for one.
pub(super) fn admit_readers(on_scrape: OnScrape, verifier: &Arc<Verifier>, asked: Metrics) -> OnScrape {
    if asked != Metrics::Token {
        return on_scrape;
    }
    let verifier = Arc::clone(verifier);
    on_scrape.admitting(move |headers| {
        let verifier = Arc::clone(&verifier);
        Box::pin(async move { verifier.verify(auth::token_from(&headers)?).await?.require(&METRICS_READERS) })
    })
}

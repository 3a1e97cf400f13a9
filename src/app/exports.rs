//! What exports the spans of a process, until everything else has stopped.

use crate::config::Config;
use crate::db::Ids;
use crate::http::metrics;
use crate::traces::Tracer;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The task that exports, if there is one.
pub(super) struct Exports {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Exports {
    /// Starts it, where a collector is named; returns what makes the spans, too.
    ///
    /// # Errors
    /// Its client cannot be made.
    pub(super) fn start(config: &Config, ids: &Arc<Ids>) -> anyhow::Result<(Tracer, Self)> {
        // It counts what it exports from the first on.
        metrics::install();
        let clock = Arc::clone(ids);
        let (tracer, exporter) = Tracer::new(config.traces.clone(), move || clock.now())?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        if let Some(exporter) = exporter {
            tasks.spawn(exporter.run(stop.clone()));
        }
        Ok((tracer, Self { stop, tasks }))
    }

    /// Exports what is left, which is soon done, whatever the collector does.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

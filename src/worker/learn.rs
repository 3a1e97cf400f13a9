//! Has every consumer learn of changed definitions, beside the claims: whoever claims works with what is known.

use super::desk::Desk;
use super::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Changes that come at once are learned of at once.
const GATHER: Duration = Duration::from_millis(50);
/// How soon to try again when the database is away.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the loop says that it goes round, and what cannot be used is thought of.
const REST: Duration = Duration::from_millis(2500);

/// What this process has seen and learned of the catalog.
#[derive(Debug, Default)]
pub(super) struct Learning {
    /// The newest revision that a look has seen.
    seen: AtomicI64,
    /// The revision that every consumer knows.
    known: AtomicI64,
    bell: Notify,
}

impl Learning {
    /// A look has seen this revision.
    pub(super) fn saw(&self, revision: i64) {
        if self.seen.fetch_max(revision, Ordering::AcqRel) < revision {
            self.bell.notify_one();
        }
    }

    /// Whether every consumer knows this revision.
    pub(super) fn knows(&self, revision: i64) -> bool {
        self.known.load(Ordering::Acquire) >= revision
    }

    /// Learns until `stop`.
    pub(super) async fn run(
        &self,
        desks: &[Arc<dyn Desk>],
        wake: &Wake,
        stop: &CancellationToken,
        beat: impl Fn() + Send + Sync,
    ) {
        while !stop.is_cancelled() {
            let seen = self.seen.load(Ordering::Acquire);
            let mut is_complete = true;
            for desk in desks {
                if let Err(error) = desk.refresh(seen).await {
                    tracing::warn!(%error, "cannot learn of changed definitions; trying again");
                    is_complete = false;
                }
            }
            let mut rest = AGAIN;
            if is_complete {
                beat();
                rest = REST;
                if self.known.fetch_max(seen, Ordering::AcqRel) < seen {
                    wake.changed();
                    // Lanes that are new to us were not looked at.
                    wake.look();
                    stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                }
            }
            stop.run_until_cancelled(tokio::time::timeout(rest, self.bell.notified())).await;
        }
    }
}

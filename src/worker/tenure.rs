//! For how long what was claimed is surely still ours, by this process's own monotonic clock.
//!
//! A process may stand still at any moment (`SIGSTOP`, a machine that swaps), and others then take back what it holds.
//! It finds out with its next heartbeat, but goes on at once. So every start, whatever its kind, asks here first, by its
//! claim (`hold.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The time for which a registration surely counts. Cheap to clone, and to ask.
#[derive(Debug, Clone)]
pub(super) struct Tenure(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    lease: Duration,
    /// Cancelled once it has ended.
    over: CancellationToken,
    began: Instant,
    /// The time is over this many nanoseconds after it began; [`ENDED`] once it has ended.
    until: AtomicU64,
    renewed: Notify,
}

/// No time is left, and none will be.
const ENDED: u64 = 0;

impl Tenure {
    /// A tenure of `lease` from the moment before the database was asked for it.
    pub(super) fn new(asked: Instant, lease: Duration) -> Self {
        let until = AtomicU64::new(nanos(lease));
        let (over, renewed) = (CancellationToken::new(), Notify::new());
        Self(Arc::new(Inside { lease, over, began: asked, until, renewed }))
    }

    /// The database took a heartbeat, which was sent at this moment.
    pub(super) fn renewed(&self, asked: Instant) {
        let Inside { lease, began, until, renewed, .. } = &*self.0;
        let next = nanos((asked + *lease).saturating_duration_since(*began));
        // It fails only if it has ended.
        _ = until.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now != ENDED).then_some(next));
        renewed.notify_waiters();
    }

    /// The registration was given up, or the process stops: nothing more of what was claimed under it starts.
    pub(super) fn end(&self) {
        self.0.until.store(ENDED, Ordering::Release);
        self.0.over.cancel();
    }

    /// Cancelled once it has ended.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.0.over
    }

    /// Whether it has ended, or its time has passed.
    pub(super) fn is_over(&self) -> bool {
        nanos(self.0.began.elapsed()) >= self.0.until.load(Ordering::Acquire)
    }

    /// Returns at once while what was claimed is ours. When its time is over it returns only after a heartbeat that was
    /// on its way has made it ours again; else never.
    pub(super) async fn holds(&self) {
        while self.is_over() {
            let mut renewed = std::pin::pin!(self.0.renewed.notified());
            // Whoever renews it from here on is heard.
            renewed.as_mut().enable();
            if self.is_over() {
                renewed.await;
            }
        }
    }
}

/// Nanoseconds, which are enough for centuries; never [`ENDED`], since some time passes.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const LEASE: Duration = Duration::from_mins(1);

    fn ago(time: Duration) -> Instant {
        Instant::now().checked_sub(time).unwrap_or_else(Instant::now)
    }

    #[test]
    fn nothing_starts_once_a_lease_has_passed_since_the_last_heartbeat_was_sent() {
        let tenure = Tenure::new(Instant::now(), LEASE);
        assert_eq!(tenure.holds().now_or_never(), Some(()));
        tenure.renewed(ago(LEASE));
        assert!(tenure.is_over());
        let mut waiting = Box::pin(tenure.holds());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        // A heartbeat that was under way is answered after all.
        tenure.renewed(ago(LEASE / 2));
        assert_eq!(waiting.now_or_never(), Some(()));
    }

    #[test]
    fn nothing_starts_under_a_registration_that_was_given_up_though_its_heartbeat_goes_on() {
        let tenure = Tenure::new(Instant::now(), LEASE);
        tenure.end();
        tenure.renewed(Instant::now());
        assert!(tenure.is_over() && tenure.over().is_cancelled());
        assert_eq!(tenure.holds().now_or_never(), None);
    }
}

//! For how long what was claimed is surely still ours, by this process's own monotonic clock.
//!
//! A process may stand still at any moment (`SIGSTOP`, a machine that swaps), and others then take back what it holds.
//! It finds out with its next heartbeat, but goes on at once. So every start, whatever its kind, asks here first.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The time for which a registration surely counts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    lease: Duration,
    /// Cancelled once it has ended.
    over: CancellationToken,
    /// `None` once it has ended.
    until: watch::Sender<Option<Instant>>,
}

impl Tenure {
    /// A tenure of `lease` from the moment before the database was asked for it.
    pub(super) fn new(asked: Instant, lease: Duration) -> Self {
        let (over, until) = (CancellationToken::new(), watch::Sender::new(Some(asked + lease)));
        Self(Arc::new(Inside { lease, over, until }))
    }

    /// The database took a heartbeat, which was sent at this moment.
    pub(super) fn renewed(&self, asked: Instant) {
        let next = asked + self.0.lease;
        self.0.until.send_if_modified(|until| until.as_mut().map(|until| *until = next).is_some());
    }

    /// The registration was given up, or the process stops: nothing more of what was claimed under it starts.
    pub(super) fn end(&self) {
        self.0.until.send_replace(None);
        self.0.over.cancel();
    }

    /// Cancelled once it has ended.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.0.over
    }

    /// Whether it has ended, or its time has passed.
    pub(super) fn is_over(&self) -> bool {
        self.0.until.borrow().is_none_or(|until| Instant::now() >= until)
    }

    /// Returns at once while what was claimed is ours: to be awaited right before each start. When its time is over
    /// it returns only after a heartbeat that was on its way has made it ours again; else never, and the attempt that
    /// waits is stopped, its lease left to the reclaim.
    pub async fn holds(&self) {
        if !self.is_over() {
            return;
        }
        let mut until = self.0.until.subscribe();
        while self.is_over() {
            // It cannot fail: the sender is ours.
            _ = until.changed().await;
        }
    }
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

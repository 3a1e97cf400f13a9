//! How many ends are not written yet. Too many of them keep the claim loop from claiming more.

use super::wake::Wake;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the ends that wait in memory.
#[derive(Debug)]
pub(super) struct Unwritten {
    count: AtomicUsize,
    wake: Arc<Wake>,
}

impl Unwritten {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { count: AtomicUsize::new(0), wake }
    }

    /// One more end waits.
    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// So many are dealt with. Rings for the claim loop if it starves: the attempts whose ends these are rang when
    /// they made room, which may be long ago, and none need run any more.
    pub(super) fn written(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::AcqRel);
        self.wake.room();
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_claim_loop_that_starves_is_rung_once_ends_are_written() {
        let wake = Arc::<Wake>::default();
        let unwritten = Unwritten::new(Arc::clone(&wake));
        unwritten.add();
        unwritten.add();
        unwritten.written(1);
        assert_eq!((unwritten.count(), wake.rung().now_or_never()), (1, None), "it did not starve");
        wake.set_starving(true);
        unwritten.written(1);
        assert_eq!((unwritten.count(), wake.rung().now_or_never()), (0, Some(())));
    }
}

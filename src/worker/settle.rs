//! Writes the ends of attempts: many in one transaction, fenced by their leases.
//!
//! A group commit without a timer: while one transaction is under way the next ends queue up, and are written
//! together once it is done. A single end waits for no other. A batch is bounded by count and by bytes; one that the
//! database does not take in time is moved aside (`aside.rs`), where it no longer delays the others.

use super::batch::Size;
use super::flush::{End, Flush, Key, Limit, Open, Trouble, Written};
use super::unwritten::Unwritten;
use super::wake::Wake;
use super::{Claim, Consumer, Ended, aside};
use crate::db::by_id::HashSet;
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The most ends in one transaction.
const BATCH: usize = 1000;
/// The most bytes in one transaction, about.
const BYTES: usize = 8 << 20;

/// Takes the ends of one consumer's attempts.
#[derive(Debug)]
pub struct Settler<O> {
    ends: mpsc::UnboundedSender<End<O>>,
    open: Open,
    unwritten: Arc<Unwritten>,
    weigh: fn(&O) -> usize,
}

impl<O> Clone for Settler<O> {
    fn clone(&self) -> Self {
        let (open, unwritten) = (Arc::clone(&self.open), Arc::clone(&self.unwritten));
        Self { ends: self.ends.clone(), open, unwritten, weigh: self.weigh }
    }
}

impl<O: Send + Sync + 'static> Settler<O> {
    /// A settler and the loops behind it, which end when the last clone is dropped and every end is written.
    pub(super) fn new<C: Consumer<Outcome = O>>(
        consumer: Arc<C>,
        pool: PgPool,
        wake: Arc<Wake>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (ends, received) = mpsc::unbounded_channel();
        let (put_aside, kept_aside) = mpsc::unbounded_channel();
        let (open, unwritten) = (Open::default(), Arc::new(Unwritten::new(Arc::clone(&wake))));
        let settler =
            Self { ends, open: Arc::clone(&open), unwritten: Arc::clone(&unwritten), weigh: C::weight };
        let flush = Arc::new(Flush { consumer, pool, wake, open, unwritten, over: Mutex::default() });
        let aside = aside::run(Arc::clone(&flush), kept_aside);
        let both = futures::future::join(run(flush, received, put_aside), aside);
        (settler, async move { _ = both.await })
    }

    /// Notes how many items each lease holds, so that the lease can be deleted with the last of their ends.
    pub(super) fn open(&self, claims: &[Claim]) {
        let mut open = self.open.lock();
        for claim in claims {
            *open.entry(claim.lease).or_insert(0) += 1;
        }
    }

    /// Whether the lease was opened here and has items whose ends are not yet written.
    pub(super) fn knows(&self, lease: Uuid) -> bool {
        self.open.lock().contains_key(&lease)
    }

    /// Queues an end to be written.
    pub(super) fn end(&self, ended: Ended<O>) {
        self.send(ended, None);
    }

    /// Writes the end of a lease that holds one item; returns whether it counts, that is, whether this very end is
    /// stored. If not, the lease was over, the item was deleted, or the end could not be stored.
    ///
    /// # Errors
    /// The server is stopping.
    pub async fn end_now(&self, ended: Ended<O>) -> Result<bool, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.send(ended, Some(reply));
        answer.await.map_err(|_| Stopping)
    }

    /// Whether every end so far is written.
    pub(super) fn is_idle(&self) -> bool {
        self.unwritten() == 0
    }

    /// How many ends are not written yet.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.count()
    }

    fn send(&self, ended: Ended<O>, reply: Option<oneshot::Sender<bool>>) {
        let weight = ended.outcome.as_ref().map_or(0, self.weigh);
        self.unwritten.add();
        // This fails only after the loop was dropped, when the process ends: then the lease is reclaimed.
        _ = self.ends.send(End { ended: Arc::new(ended), weight, reply });
    }
}

/// The server is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopping;

/// Writes ends in batches as they arrive, until all senders are gone.
async fn run<C: Consumer>(
    flush: Arc<Flush<C>>,
    mut ends: mpsc::UnboundedReceiver<End<C::Outcome>>,
    aside: mpsc::UnboundedSender<Vec<End<C::Outcome>>>,
) {
    let mut size = Size::new(BATCH, BYTES);
    let mut waiting = VecDeque::with_capacity(BATCH);
    let mut received = Vec::with_capacity(BATCH);
    loop {
        if waiting.is_empty() {
            if ends.recv_many(&mut received, BATCH).await == 0 {
                return;
            }
            waiting.extend(received.drain(..));
        }
        while waiting.len() < BATCH
            && let Ok(end) = ends.try_recv()
        {
            waiting.push_back(end);
        }
        let began = Instant::now();
        match write(&flush, batch(&mut waiting, &size)).await {
            Ok(()) => size.took(began.elapsed()),
            Err((ends, trouble)) => {
                if trouble != Trouble::Refused {
                    size.failed();
                }
                // The receiver lives as long as this loop.
                _ = aside.send(ends);
            }
        }
    }
}

/// Takes the next batch. A second end of the same item waits until the first is dealt with.
fn batch<O>(waiting: &mut VecDeque<End<O>>, size: &Size) -> Vec<End<O>> {
    let (mut batch, mut bytes) = (Vec::with_capacity(waiting.len()), 0);
    let mut asked: HashSet<Key> = HashSet::default();
    while let Some(end) = waiting.pop_front_if(|end| {
        size.has_room(batch.len(), bytes, end.weight) && (end.reply.is_none() || asked.insert(end.key()))
    }) {
        bytes += end.weight;
        batch.push(end);
    }
    batch
}

/// Writes a batch, however long the database is unreachable: until it is written or its leases are over. Returns the
/// batch if the database does not take it, or not in time.
async fn write<C: Consumer>(
    flush: &Flush<C>,
    ends: Vec<End<C::Outcome>>,
) -> Result<(), (Vec<End<C::Outcome>>, Trouble)> {
    let mut pause = Duration::from_millis(20);
    let mut written = Written::No;
    loop {
        match flush.write(&ends, written, Limit::Short).await {
            Ok(wrote) => {
                flush.done(ends, wrote).await;
                return Ok(());
            }
            Err(error) => {
                let trouble = Trouble::of(&error);
                if trouble != Trouble::Passing {
                    tracing::warn!(%error, ends = ends.len(), "the database does not take a batch of ends: putting it aside");
                    return Err((ends, trouble));
                }
                tracing::warn!(%error, ends = ends.len(), "cannot write ends; trying again");
            }
        }
        written = Written::Perhaps;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

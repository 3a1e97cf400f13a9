//! Writes the ends of attempts: many in one transaction, fenced by their leases.
//!
//! A group commit without a timer: while one transaction is under way the next ends queue up, and go
//! together when it is done. A single end waits for nobody. A batch ends at so many ends and so many bytes; one that
//! the database does not take in time is put aside, where it keeps the others waiting no longer.

use super::batch::Size;
use super::flush::{End, Flush, Key, Limit, Open, Trouble, Written};
use super::wake::Wake;
use super::{Claim, Consumer, Ended, aside};
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The most ends in one transaction, ...
const BATCH: usize = 1000;
/// ... and the most bytes.
const BYTES: usize = 8 << 20;

/// Where the ends of one consumer's attempts go.
#[derive(Debug)]
pub struct Settler<O> {
    ends: mpsc::UnboundedSender<End<O>>,
    open: Open,
    pending: Arc<AtomicUsize>,
    weigh: fn(&O) -> usize,
}

impl<O> Clone for Settler<O> {
    fn clone(&self) -> Self {
        let (open, pending) = (Arc::clone(&self.open), Arc::clone(&self.pending));
        Self { ends: self.ends.clone(), open, pending, weigh: self.weigh }
    }
}

impl<O: Send + Sync + 'static> Settler<O> {
    /// A settler and the loops behind it, which end when the last clone is gone and all is written.
    pub(super) fn new<C: Consumer<Outcome = O>>(
        consumer: Arc<C>,
        pool: PgPool,
        wake: Arc<Wake>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (ends, received) = mpsc::unbounded_channel();
        let (put_aside, kept_aside) = mpsc::unbounded_channel();
        let (open, pending) = (Open::default(), Arc::new(AtomicUsize::new(0)));
        let settler = Self { ends, open: Arc::clone(&open), pending: Arc::clone(&pending), weigh: C::weight };
        let flush = Arc::new(Flush { consumer, pool, wake, open, pending, over: Mutex::default() });
        let aside = aside::run(Arc::clone(&flush), kept_aside);
        let both = futures::future::join(run(flush, received, put_aside), aside);
        (settler, async move { _ = both.await })
    }

    /// Notes how many items each lease holds, so that the last one's end can close it.
    pub(super) fn open(&self, claims: &[Claim]) {
        let mut open = self.open.lock();
        for claim in claims {
            *open.entry(claim.lease).or_insert(0) += 1;
        }
    }

    /// Whether the lease was opened here and has items whose ends are not written.
    pub(super) fn knows(&self, lease: Uuid) -> bool {
        self.open.lock().contains_key(&lease)
    }

    /// Writes an end, some time soon.
    pub(super) fn end(&self, ended: Ended<O>) {
        self.send(ended, None);
    }

    /// Writes an end of a lease that holds one item, and says whether it counts: whether the database holds this
    /// very end. Where it does not, the lease was over, the item gone, or the end such that it could not be stored.
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
        self.pending.load(Ordering::Acquire)
    }

    fn send(&self, ended: Ended<O>, reply: Option<oneshot::Sender<bool>>) {
        let weight = ended.outcome.as_ref().map_or(0, self.weigh);
        self.pending.fetch_add(1, Ordering::AcqRel);
        // Nobody receives only once the loop was dropped, at the end of the process: the lease is reclaimed.
        _ = self.ends.send(End { ended: Arc::new(ended), weight, reply });
    }
}

/// The server is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopping;

/// Writes the ends that come, in batches, until nobody sends any.
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
                // It is received for as long as this loop goes round.
                _ = aside.send(ends);
            }
        }
    }
}

/// Takes the next batch. A second end of the same item waits for the word on the first.
fn batch<O>(waiting: &mut VecDeque<End<O>>, size: &Size) -> Vec<End<O>> {
    let (mut batch, mut bytes) = (Vec::with_capacity(waiting.len()), 0);
    let mut asked: HashSet<Key> = HashSet::new();
    while let Some(end) = waiting.pop_front_if(|end| {
        size.has_room(batch.len(), bytes, end.weight) && (end.reply.is_none() || asked.insert(end.key()))
    }) {
        bytes += end.weight;
        batch.push(end);
    }
    batch
}

/// Writes a batch, however long the database is away: until it is written, or its leases are gone. Gives back one
/// that the database does not take, or not in time.
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

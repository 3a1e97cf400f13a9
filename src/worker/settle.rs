//! Writes the ends of attempts: many in one transaction, fenced by their leases.
//!
//! A group commit without a timer: while one transaction is under way the next ends queue up, and go
//! together when it is done. A single end waits for nobody.

use super::wake::Wake;
use super::{Claim, Consumer, Ended, Settled, store};
use crate::db;
use crate::error::is_transient;
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The most ends in one transaction.
const BATCH: usize = 1000;
/// The metric that counts ends that came after their lease was over.
pub const LOST_CLAIMS: &str = "postrider_lost_claims_total";

struct End<O> {
    ended: Ended<O>,
    reply: Option<oneshot::Sender<bool>>,
}

/// Of each open lease, how many items' ends are not written yet.
type Open = Arc<Mutex<HashMap<Uuid, usize>>>;

/// Where the ends of one consumer's attempts go.
#[derive(Debug)]
pub struct Settler<O> {
    ends: mpsc::UnboundedSender<End<O>>,
    open: Open,
    pending: Arc<AtomicUsize>,
}

impl<O> Clone for Settler<O> {
    fn clone(&self) -> Self {
        Self { ends: self.ends.clone(), open: Arc::clone(&self.open), pending: Arc::clone(&self.pending) }
    }
}

impl<O: Send + Sync + 'static> Settler<O> {
    /// A settler and the loop behind it, which ends when the last clone is gone and all is written.
    pub(super) fn new<C: Consumer<Outcome = O>>(
        consumer: Arc<C>,
        pool: PgPool,
        wake: Arc<Wake>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (ends, received) = mpsc::unbounded_channel();
        let (open, pending) = (Open::default(), Arc::new(AtomicUsize::new(0)));
        let settler = Self { ends, open: Arc::clone(&open), pending: Arc::clone(&pending) };
        (settler, Loop { consumer, pool, wake, open, pending }.run(received))
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
        self.send(End { ended, reply: None });
    }

    /// Writes an end of a lease that holds one item, and says whether it counted: `false` when the lease did
    /// not exist any more.
    ///
    /// # Errors
    /// The server is stopping.
    pub async fn end_now(&self, ended: Ended<O>) -> Result<bool, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.send(End { ended, reply: Some(reply) });
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

    fn send(&self, end: End<O>) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        // Nobody receives only once the loop was dropped, at the end of the process: the lease is reclaimed.
        _ = self.ends.send(end);
    }
}

/// The server is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the server is stopping")]
pub struct Stopping;

/// Whether ends are in the database already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// They were never sent.
    No,
    /// They were sent, and the answer was an error, which at a commit says nothing.
    Perhaps,
}

struct Loop<C: Consumer> {
    consumer: Arc<C>,
    pool: PgPool,
    wake: Arc<Wake>,
    open: Open,
    pending: Arc<AtomicUsize>,
}

impl<C: Consumer> Loop<C> {
    async fn run(self, mut ends: mpsc::UnboundedReceiver<End<C::Outcome>>) {
        let mut received = Vec::with_capacity(BATCH);
        while ends.recv_many(&mut received, BATCH).await > 0 {
            let count = received.len();
            let mut replies = Vec::new();
            let mut ended = Vec::with_capacity(count);
            for End { ended: end, reply } in received.drain(..) {
                replies.extend(reply.map(|reply| (end.claim.lease, reply)));
                ended.push(Arc::new(end));
            }
            let alive = self.write(ended).await;
            for (lease, reply) in replies {
                _ = reply.send(alive.contains(&lease));
            }
            self.pending.fetch_sub(count, Ordering::AcqRel);
        }
    }

    /// Writes the ends, however long the database is away: until they are written, or their leases are gone.
    async fn write(&self, mut ended: Vec<Arc<Ended<C::Outcome>>>) -> HashSet<Uuid> {
        let mut counts: HashMap<Uuid, usize> = HashMap::new();
        for end in &ended {
            *counts.entry(end.claim.lease).or_insert(0) += 1;
        }
        let (finished, open): (Vec<Uuid>, Vec<Uuid>) = {
            let open = self.open.lock();
            // A lease that was never opened here holds one item, claimed over HTTP.
            counts.keys().partition(|lease| open.get(lease).is_none_or(|left| *left <= counts[lease]))
        };
        let mut pause = Duration::from_millis(20);
        let mut written = Written::No;
        let alive = loop {
            match self.flush(ended.clone(), finished.clone(), open.clone(), written).await {
                Ok(alive) => break alive,
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, ends = ended.len(), "cannot write ends; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => {
                    tracing::error!(%error, ends = ended.len(), "the database refuses a batch of ends; finding the one");
                    self.replace_refused(&mut ended).await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
            written = Written::Perhaps;
        };
        let mut open = self.open.lock();
        for (lease, count) in counts {
            if let Entry::Occupied(mut left) = open.entry(lease) {
                *left.get_mut() -= count.min(*left.get());
                if *left.get() == 0 || !alive.contains(&lease) {
                    left.remove();
                }
            }
        }
        drop(open);
        alive
    }

    /// Writes each end alone, leases left open; one that the database will not take gets another.
    async fn replace_refused(&self, ended: &mut [Arc<Ended<C::Outcome>>]) {
        for end in ended {
            let lease = vec![end.claim.lease];
            match self.flush(vec![Arc::clone(end)], Vec::new(), lease, Written::Perhaps).await {
                Err(error) if !is_transient(&error) => {
                    tracing::error!(item = %end.claim.item, %error, "the database will not take this end");
                    let outcome = Some(self.consumer.refused(&error));
                    *end = Arc::new(Ended { claim: end.claim.clone(), outcome });
                }
                // Written, or to be written with the rest: an end counts once however often it is sent.
                _ => {}
            }
        }
    }

    async fn flush(
        &self,
        ended: Vec<Arc<Ended<C::Outcome>>>,
        finished: Vec<Uuid>,
        open: Vec<Uuid>,
        written: Written,
    ) -> sqlx::Result<HashSet<Uuid>> {
        let consumer = Arc::clone(&self.consumer);
        let wake = Arc::clone(&self.wake);
        let (alive, settled, lost) = db::transaction::<_, sqlx::Error, _>(&self.pool, move |tx| {
            Box::pin(async move {
                let alive = store::fence(&mut *tx, &finished, &open).await?;
                let alive: HashSet<Uuid> = alive.into_iter().collect();
                let ours = || ended.iter().map(Arc::as_ref).filter(|end| alive.contains(&end.claim.lease));
                // An attempt that ends without an outcome was stopped since its item is gone. Where the item is
                // there all the same, it was lost, and goes back.
                let stopped: Vec<Claim> =
                    ours().filter(|end| end.outcome.is_none()).map(|end| end.claim.clone()).collect();
                let back =
                    if stopped.is_empty() { Vec::new() } else { consumer.lost(&mut *tx, stopped).await? };
                let mut ours: Vec<&Ended<C::Outcome>> =
                    ours().filter(|end| end.outcome.is_some()).chain(&back).collect();
                if written == Written::Perhaps {
                    let claims = ours.iter().map(|end| end.claim.clone()).collect();
                    let unwritten = consumer.lost(&mut *tx, claims).await?;
                    let key = |end: &Ended<C::Outcome>| (end.claim.lease, end.claim.item);
                    let unwritten: HashSet<(Uuid, Uuid)> = unwritten.iter().map(key).collect();
                    ours.retain(|end| unwritten.contains(&key(end)));
                }
                let lost = ended.iter().filter(|end| !alive.contains(&end.claim.lease)).count();
                let settled = if ours.is_empty() {
                    Settled::default()
                } else {
                    consumer.settle(&mut *tx, &ours).await?
                };
                store::put_back(tx, &settled.again).await?;
                Ok((alive, settled, lost))
            })
        })
        .await?;
        if lost > 0 {
            tracing::warn!(items = lost, "lost claims: these ends came too late and change nothing");
            metrics::counter!(LOST_CLAIMS).increment(lost as u64);
        }
        wake.settled(&settled);
        Ok(alive)
    }
}

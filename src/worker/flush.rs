//! The one transaction in which ends are written, fenced by their leases, and what is known once it has committed.

use super::unwritten::Unwritten;
use super::wake::Wake;
use super::{Claim, Consumer, Ended, Settled, store};
use crate::db;
use crate::db::by_id::{HashMap, HashSet};
use crate::error::{is_passing, is_time_out};
use parking_lot::Mutex;
use sqlx::postgres::{PgConnection, PgPool};
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The metric that counts ends that came after their lease was over.
pub const LOST_CLAIMS: &str = "postrider_lost_claims_total";

/// For each open lease, the number of items whose ends are not written yet.
pub(super) type Open = Arc<Mutex<HashMap<Uuid, usize>>>;

/// A lease and an item of it.
pub(super) type Key = (Uuid, Uuid);

/// An end on its way into the database.
#[derive(Debug)]
pub(super) struct End<O> {
    pub(super) ended: Arc<Ended<O>>,
    /// About how many bytes it writes.
    pub(super) weight: usize,
    /// Is told whether the end counts.
    pub(super) reply: Option<oneshot::Sender<bool>>,
}

impl<O> End<O> {
    pub(super) fn key(&self) -> Key {
        (self.ended.claim.lease, self.ended.claim.item)
    }
}

/// Whether ends are in the database already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// No: they were never sent.
    No,
    /// Perhaps: they were sent, and the answer was an error, which says nothing about a commit.
    Perhaps,
}

/// How long each statement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// A part of what the session allows, since other ends are waiting.
    Short,
    /// All that the session allows.
    Full,
}

/// Why ends could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The database is unreachable, full, shutting down or not as it should be: the same transaction may succeed later.
    Passing,
    /// Another transaction holds a lock on a row or a table.
    Locked,
    /// It took too long.
    Slow,
    /// The database refuses what is to be written.
    Refused,
}

impl Trouble {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let is_locked =
            matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"));
        match error {
            _ if is_locked => Self::Locked,
            _ if is_time_out(error) => Self::Slow,
            _ if is_passing(error) => Self::Passing,
            _ => Self::Refused,
        }
    }
}

/// What a transaction found and wrote.
#[derive(Debug)]
pub(super) struct Wrote {
    /// The leases that still existed.
    alive: HashSet<Uuid>,
    /// Those that were to be deleted.
    finished: Vec<Uuid>,
    /// The ends that are stored exactly as they were reported.
    counted: HashSet<Key>,
}

/// Writes the ends of one consumer.
pub(super) struct Flush<C: Consumer> {
    pub(super) consumer: Arc<C>,
    pub(super) pool: PgPool,
    pub(super) wake: Arc<Wake>,
    pub(super) open: Open,
    pub(super) unwritten: Arc<Unwritten>,
    /// Leases whose ends were all written, but by two transactions at a time, so that neither saw itself as the last:
    /// the next transaction deletes them.
    pub(super) over: Mutex<Vec<Uuid>>,
}

impl<C: Consumer> Flush<C> {
    /// Writes ends, each of a different item, in one transaction.
    pub(super) async fn write(
        &self,
        ends: &[End<C::Outcome>],
        written: Written,
        limit: Limit,
    ) -> sqlx::Result<Wrote> {
        let ended: Vec<_> = ends.iter().map(|end| Arc::clone(&end.ended)).collect();
        let asked = ends.iter().filter(|end| end.reply.is_some()).map(End::key).collect();
        self.transact(ended, asked, written, limit).await
    }

    /// Replaces an end that the database refuses, for this reason, with another. The replacement gets little time: if it
    /// succeeds in that, the fault lay in the end and not in the database.
    pub(super) async fn write_instead(
        &self,
        end: &End<C::Outcome>,
        error: &sqlx::Error,
    ) -> sqlx::Result<Wrote> {
        // The caller is not told that its end counted: this is not what it reported.
        self.transact(vec![self.instead(end, error)], HashSet::default(), Written::Perhaps, Limit::Short)
            .await
    }

    /// Whether the replacement could be written now. It is rolled back.
    pub(super) async fn could_write_instead(&self, end: &End<C::Outcome>, error: &sqlx::Error) -> bool {
        let ended = vec![self.instead(end, error)];
        let (finished, open) = self.leases(&ended);
        let (consumer, asked) = (Arc::clone(&self.consumer), HashSet::default());
        let rehearsed = db::transaction::<(), Rehearsed, _>(&self.pool, move |tx| {
            Box::pin(async move {
                let leases = (&finished[..], &open[..]);
                settle(&*consumer, tx, &ended, leases, &asked, Written::Perhaps, Limit::Short).await?;
                Err(Rehearsed(None))
            })
        });
        matches!(rehearsed.await, Err(Rehearsed(None)))
    }

    fn instead(&self, end: &End<C::Outcome>, error: &sqlx::Error) -> Arc<Ended<C::Outcome>> {
        let outcome = Some(self.consumer.refused(end.ended.outcome.as_ref(), error));
        Arc::new(Ended { claim: end.ended.claim.clone(), outcome })
    }

    async fn transact(
        &self,
        ended: Vec<Arc<Ended<C::Outcome>>>,
        asked: HashSet<Key>,
        written: Written,
        limit: Limit,
    ) -> sqlx::Result<Wrote> {
        let (mut finished, open) = self.leases(&ended);
        let over = std::mem::take(&mut *self.over.lock());
        finished.extend_from_slice(&over);
        let (consumer, closing) = (Arc::clone(&self.consumer), finished.clone());
        let done = db::transaction::<_, sqlx::Error, _>(&self.pool, move |tx| {
            Box::pin(async move {
                settle(&*consumer, tx, &ended, (&closing, &open), &asked, written, limit).await
            })
        });
        let Done { alive, counted, settled, lost } =
            done.await.inspect_err(|_| self.over.lock().extend(over))?;
        if lost > 0 {
            tracing::warn!(items = lost, "lost claims: these ends came too late and change nothing");
            metrics::counter!(LOST_CLAIMS).increment(lost as u64);
        }
        self.wake.settled(&settled);
        settled.lines.write();
        Ok(Wrote { alive, finished, counted })
    }

    /// The leases of these ends, in two parts: those with no other unwritten end, and the rest.
    fn leases(&self, ended: &[Arc<Ended<C::Outcome>>]) -> (Vec<Uuid>, Vec<Uuid>) {
        let counts = counts(ended.iter().map(|end| end.claim.lease));
        let open = self.open.lock();
        // A lease that was never opened here holds one item, claimed over HTTP.
        counts.keys().partition(|lease| open.get(lease).is_none_or(|left| *left <= counts[lease]))
    }

    /// Records that these ends are dealt with, and tells those who wait for them.
    pub(super) async fn done(&self, ends: Vec<End<C::Outcome>>, wrote: Wrote) {
        let Wrote { alive, finished, mut counted } = wrote;
        let count = ends.len();
        {
            let mut open = self.open.lock();
            for (lease, count) in counts(ends.iter().map(|end| end.ended.claim.lease)) {
                if let Entry::Occupied(mut left) = open.entry(lease) {
                    *left.get_mut() -= count.min(*left.get());
                    let is_over = *left.get() == 0;
                    if is_over || !alive.contains(&lease) {
                        left.remove();
                    }
                    if is_over && alive.contains(&lease) && !finished.contains(&lease) {
                        self.over.lock().push(lease);
                    }
                }
            }
        }
        for end in ends {
            let key = end.key();
            if let Some(reply) = end.reply {
                // The caller may have gone away.
                _ = reply.send(counted.remove(&key));
            }
        }
        // There is rarely one. A lease that cannot be deleted now is deleted with the next ends.
        if !self.over.lock().is_empty()
            && let Err(error) = self.transact(Vec::new(), HashSet::default(), Written::No, Limit::Short).await
        {
            tracing::warn!(%error, "cannot end a lease whose items have ended; trying again");
        }
        self.unwritten.written(count);
    }
}

/// What a transaction did.
struct Done {
    alive: HashSet<Uuid>,
    counted: HashSet<Key>,
    settled: Settled,
    /// How many ends came too late.
    lost: usize,
}

/// Rolls a transaction back; returns the earlier error, if there was one.
struct Rehearsed(Option<sqlx::Error>);

impl From<sqlx::Error> for Rehearsed {
    fn from(error: sqlx::Error) -> Self {
        Self(Some(error))
    }
}

/// Writes the ends whose leases still exist. The leases in `finished` are deleted, the others locked.
async fn settle<C: Consumer>(
    consumer: &C,
    tx: &mut PgConnection,
    ended: &[Arc<Ended<C::Outcome>>],
    (finished, open): (&[Uuid], &[Uuid]),
    asked: &HashSet<Key>,
    written: Written,
    limit: Limit,
) -> sqlx::Result<Done> {
    let alive = match limit {
        Limit::Full => store::fence(&mut *tx, finished, open).await?,
        Limit::Short => store::fence_shortly(&mut *tx, finished, open).await?,
    };
    let alive: HashSet<Uuid> = alive.into_iter().collect();
    let is_alive = |end: &&Ended<C::Outcome>| alive.contains(&end.claim.lease);
    let all = || ended.iter().map(Arc::as_ref);
    // An attempt without an outcome was stopped because its item was deleted. If the item still exists, the attempt was
    // lost, and the item goes back.
    let stopped: Vec<Claim> =
        all().filter(is_alive).filter(|end| end.outcome.is_none()).map(|end| end.claim.clone()).collect();
    let back = if stopped.is_empty() { Vec::new() } else { consumer.lost(&mut *tx, stopped).await? };
    let mut ours: Vec<&Ended<C::Outcome>> =
        all().filter(is_alive).filter(|end| end.outcome.is_some()).chain(&back).collect();
    if written == Written::Perhaps && !ours.is_empty() {
        let claims = ours.iter().map(|end| end.claim.clone()).collect();
        let unwritten: HashSet<Key> = consumer.lost(&mut *tx, claims).await?.iter().map(key).collect();
        ours.retain(|end| unwritten.contains(&key(end)));
    }
    let settled = if ours.is_empty() { Settled::default() } else { consumer.settle(&mut *tx, &ours).await? };
    store::put_back(&mut *tx, &settled.again).await?;
    if written == Written::No && asked.is_empty() {
        let lost = all().filter(|end| !is_alive(end)).count();
        return Ok(Done { alive, counted: HashSet::default(), settled, lost });
    }
    // What took effect under an existing lease counts. For the rest, the rows are asked if anybody waits for the answer.
    let is_whole = settled.written == ours.len();
    let mut counted: HashSet<Key> =
        if is_whole { ours.iter().map(|end| key(end)).collect() } else { HashSet::default() };
    let doubtful: Vec<&Ended<C::Outcome>> = all()
        .filter(|end| end.outcome.is_some() && !counted.contains(&key(end)))
        .filter(|end| asked.contains(&key(end)) || (written == Written::Perhaps && !is_alive(end)))
        .collect();
    if !doubtful.is_empty() {
        counted.extend(consumer.written(tx, &doubtful).await?);
    }
    let lost = all().filter(|end| !is_alive(end) && !counted.contains(&key(end))).count();
    Ok(Done { alive, counted, settled, lost })
}

fn key<O>(end: &Ended<O>) -> Key {
    (end.claim.lease, end.claim.item)
}

fn counts(leases: impl Iterator<Item = Uuid>) -> HashMap<Uuid, usize> {
    let mut counts = HashMap::default();
    for lease in leases {
        *counts.entry(lease).or_insert(0) += 1;
    }
    counts
}

//! Gives back what dead workers held, so that it runs again.
//!
//! A lease whose items somebody else has locked (an application that has said something about a job and not committed)
//! is not waited for: it is tried again later, after all that were not tried yet, and stands in nobody's way.

use super::desk::{Desk, Floor};
use super::later::Later;
use super::lease::Registration;
use super::store;
use super::{Claim, Settled};
use crate::db::{self, Database, bounded};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The most leases, and about the most items, in one transaction.
const BATCH: usize = 50;
const ITEMS: usize = 1000;
/// Leases that were tried before are tried again so many at a time, between two looks for new ones.
const AGAIN: usize = 8;
/// How long a transaction waits for a lock of somebody else.
const PATIENCE: Duration = Duration::from_millis(100);
/// For how long the answer to a claim that failed may still turn into a lease: the statement timeout.
const LOST_CLAIM: Duration = Duration::from_secs(40);
/// How often such leases are looked for meanwhile, and how soon to try again when the database is away.
const SOON: Duration = Duration::from_millis(250);
/// How often the loop says that it goes round while nobody is dead.
const REST: Duration = Duration::from_millis(2500);
/// How often workers are buried that died holding nothing.
const BURIAL: Duration = Duration::from_mins(1);

/// What gives back.
pub(super) struct Reclaim {
    db: Database,
    floor: Arc<Floor>,
    registration: Arc<Registration>,
    desks: Vec<Arc<dyn Desk>>,
    asked: Notify,
    /// Until when there may be leases of ours that we do not know of, since the answer to a claim was lost.
    suspicious_until: Mutex<Option<Instant>>,
}

impl Reclaim {
    pub(super) fn new(
        db: Database,
        floor: Arc<Floor>,
        registration: Arc<Registration>,
        desks: Vec<Arc<dyn Desk>>,
    ) -> Self {
        Self { db, floor, registration, desks, asked: Notify::new(), suspicious_until: Mutex::default() }
    }

    /// A lease has outlived its holder.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// The answer to a claim was lost, or belongs to nobody here: there may be leases of ours that we do not know of.
    pub(super) fn suspect(&self) {
        *self.suspicious_until.lock() = Some(Instant::now() + LOST_CLAIM);
        self.ask();
    }

    /// Gives back until `stop`.
    pub(super) async fn run(&self, stop: &CancellationToken, beat: impl Fn() + Send + Sync) {
        let mut later = Later::default();
        let mut buried = Instant::now();
        let mut is_asked = true;
        while !stop.is_cancelled() {
            let round = async {
                let is_suspicious = self.give_back_unknown().await?;
                let mut has_ended = false;
                if is_asked || is_suspicious || later.is_due(Instant::now()) {
                    has_ended = self.round(&mut later, &beat).await?;
                }
                if has_ended || buried.elapsed() >= BURIAL {
                    buried = Instant::now();
                    db::transaction(&self.db.worker, |tx| Box::pin(store::bury(tx))).await?;
                }
                Ok::<_, sqlx::Error>(is_suspicious)
            };
            let rest = match round.await {
                Ok(is_suspicious) => {
                    beat();
                    let next = later.next().map_or(REST, |at| at.saturating_duration_since(Instant::now()));
                    next.min(if is_suspicious { SOON } else { REST })
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take back what dead workers hold; trying again");
                    self.ask();
                    stop.run_until_cancelled(tokio::time::sleep(SOON)).await;
                    SOON
                }
            };
            let rung = stop.run_until_cancelled(tokio::time::timeout(rest, self.asked.notified())).await;
            is_asked = matches!(rung, Some(Ok(())));
        }
    }

    /// Gives silent workers up, and back all that can be had now: what is new first, then what is due again. Says whether there was any.
    async fn round(&self, later: &mut Later, beat: &(impl Fn() + Send + Sync)) -> sqlx::Result<bool> {
        let lanes: Vec<i32> = self.desks.iter().flat_map(|desk| desk.all()).collect();
        let pool = &self.db.worker;
        // Who held nothing is buried at once.
        let mut has_ended = bounded(store::give_up(pool)).await? > 0;
        loop {
            let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
            let dead = bounded(store::dead(pool, &lanes, &later.all(), None, limit)).await?;
            if !dead.is_empty() {
                has_ended |= self.take_many(batch(dead), later).await?;
                beat();
                continue;
            }
            let due = later.due(Instant::now(), AGAIN);
            if due.is_empty() {
                return Ok(has_ended);
            }
            // What is not dead any more has ended, or lives again.
            let dead = bounded(store::dead(pool, &lanes, &[], Some(&due), limit)).await?;
            let dead: HashSet<Uuid> = dead.into_iter().map(|(id, _)| id).collect();
            for id in due {
                if dead.contains(&id) {
                    has_ended |= self.take_one(id, later).await?;
                    beat();
                } else {
                    later.forget(id);
                }
            }
        }
    }

    /// Takes leases together, or each alone when one of them stands in the way of the others.
    async fn take_many(&self, leases: Vec<Uuid>, later: &mut Later) -> sqlx::Result<bool> {
        if leases.len() > 1 {
            match self.take(leases.clone()).await {
                Ok(ended) if ended == leases.len() => return Ok(true),
                // Some are held by others, or have ended meanwhile.
                Ok(_) | Err(sqlx::Error::Database(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut has_ended = false;
        for lease in leases {
            has_ended |= self.take_one(lease, later).await?;
        }
        Ok(has_ended)
    }

    /// Takes one lease; one that cannot be had is left for later.
    async fn take_one(&self, lease: Uuid, later: &mut Later) -> sqlx::Result<bool> {
        match self.take(vec![lease]).await {
            Ok(0) => later.put_off(lease, Instant::now()),
            Ok(_) => {
                later.forget(lease);
                return Ok(true);
            }
            Err(sqlx::Error::Database(error)) => {
                // 55P03: somebody else has a lock for longer than we wait.
                if error.code().as_deref() == Some("55P03") {
                    tracing::debug!(%lease, "what a lost worker held is locked by somebody else; trying again later");
                } else {
                    tracing::warn!(%error, %lease, "cannot take back what a lost worker held; trying again later");
                }
                later.put_off(lease, Instant::now());
            }
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Ends those of these leases that outlived their holders and nobody has locked; returns how many.
    ///
    /// The lease rows are locked first. What has already ended is looked for by the next statements, whose snapshots
    /// are newer than the locks: an end that was written before is seen, and one that comes after finds no lease.
    async fn take(&self, leases: Vec<Uuid>) -> sqlx::Result<usize> {
        let desks = self.desks.clone();
        let (ended, settled) = db::transaction::<_, sqlx::Error, _>(&self.db.worker, move |tx| {
            Box::pin(async move {
                let dead = store::lock_dead(&mut *tx, &leases, PATIENCE).await?;
                let mut leases: HashSet<Uuid> = HashSet::new();
                let mut by_lane: HashMap<i32, Vec<Claim>> = HashMap::new();
                for claim in dead {
                    leases.insert(claim.lease);
                    by_lane.entry(claim.lane).or_default().push(claim);
                }
                let mut all = Settled::default();
                for (lane, claims) in by_lane {
                    // A lane of nobody is gone, with the queue it was: its leases just end.
                    let Some(desk) = desks.iter().find(|desk| desk.owns(lane)) else { continue };
                    let settled = desk.reclaim(tx, claims).await?;
                    all.written += settled.written;
                    all.again.extend(settled.again);
                    all.woken.extend(settled.woken);
                    all.lines.extend(settled.lines);
                    all.soonest = [all.soonest, settled.soonest].into_iter().flatten().min();
                }
                store::put_back(tx, &all.again).await?;
                let leases: Vec<Uuid> = leases.into_iter().collect();
                store::fence(&mut *tx, &leases, &[]).await?;
                Ok((leases.len(), all))
            })
        })
        .await?;
        if settled.written > 0 {
            let again = settled.again.len();
            tracing::warn!(
                leases = ended,
                items = settled.written,
                again,
                "took back what lost workers held"
            );
        }
        self.floor.wake.settled(&settled);
        settled.lines.write();
        Ok(ended)
    }

    /// Ends the time of leases of ours that no attempt here belongs to: a claim was committed, its answer lost. Says
    /// whether there may still be more.
    async fn give_back_unknown(&self) -> sqlx::Result<bool> {
        let is_suspicious = {
            let mut until = self.suspicious_until.lock();
            *until = until.filter(|until| Instant::now() <= *until);
            until.is_some()
        };
        let Some(worker) = self.registration.current().filter(|_| is_suspicious) else { return Ok(false) };
        let mut unknown = bounded(store::leases_of(&self.db.worker, worker.id)).await?;
        // A claim that is on its way is known once it is through.
        drop(self.floor.claiming.lock().await);
        unknown.retain(|lease| !self.desks.iter().any(|desk| desk.knows(*lease)));
        if !unknown.is_empty() {
            let leases = unknown.len();
            tracing::warn!(leases, "the answer to a claim was lost: giving back what it took");
            bounded(store::expire(&self.db.worker, &unknown)).await?;
        }
        Ok(true)
    }
}

/// As many of the first leases as go together.
fn batch(dead: Vec<(Uuid, usize)>) -> Vec<Uuid> {
    let mut sum = 0;
    let fits = |(_, items): &(Uuid, usize)| {
        sum += items;
        sum <= ITEMS || sum == *items
    };
    dead.into_iter().take_while(fits).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_at_so_many_items_and_has_at_least_one_lease() {
        let dead = |sizes: &[usize]| -> Vec<(Uuid, usize)> {
            sizes.iter().map(|size| (Uuid::new_v4(), *size)).collect()
        };
        assert_eq!(batch(dead(&[500, 500, 1])).len(), 2);
        assert_eq!(batch(dead(&[5000, 1])).len(), 1);
        assert_eq!(batch(dead(&[1; 50])).len(), 50);
        assert!(batch(Vec::new()).is_empty());
    }
}

//! Runs what was claimed: loads it, counts the room it takes, and stops what must be stopped.

use super::hold::Holding;
use super::settle::Settler;
use super::wake::Wake;
use super::{Claim, Consumer, Ended, Lane, Run, Settled};
use crate::db::by_id::HashMap;
use crate::error::is_time_out;
use futures::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use std::any::Any;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Everything that runs in this process, over all consumers.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) tracker: TaskTracker,
    pub(super) wake: Arc<Wake>,
    /// Held from before a claim until its room is taken: in between, an item is neither ready nor busy.
    pub(super) claiming: tokio::sync::Mutex<()>,
    room: Mutex<Room>,
    running: Mutex<HashMap<Uuid, Attempt>>,
}

/// Which kind a lane is, for the sharing of room: lanes that wait for foreign servers are one kind per desk; `None` is
/// every other lane.
pub(super) type Kind = Option<usize>;

/// How many items are claimed and have not ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    /// By lane.
    pub(super) lanes: HashMap<i32, usize>,
    /// By kind.
    pub(super) kinds: HashMap<Kind, usize>,
}

#[derive(Debug, Default)]
struct Room {
    busy: Busy,
    /// The kind of each lane that is busy, as it was when its first item was claimed.
    kinds: HashMap<i32, Kind>,
    /// The bell rings when at most this many of a lane's items are busy.
    awaited: HashMap<i32, usize>,
}

/// The newest attempt of an item in this process. An older one may still be running: it was aborted when its lease was
/// lost, but a handler cannot be stopped between two awaits.
#[derive(Debug)]
struct Attempt {
    lease: Uuid,
    /// `None` once it has been stopped without an end.
    handle: Option<AbortHandle>,
}

impl Floor {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        let (tracker, claiming) = (TaskTracker::new(), tokio::sync::Mutex::default());
        Self { tracker, wake, claiming, room: Mutex::default(), running: Mutex::default() }
    }

    /// How many items are claimed and have not ended, by lane and by kind.
    pub(super) fn busy(&self) -> Busy {
        self.room.lock().busy.clone()
    }

    /// How many items are claimed and have not ended.
    pub(super) fn total(&self) -> usize {
        self.room.lock().busy.kinds.values().sum()
    }

    /// Has the bell rung once at most `busy` items of the lane are busy; returns whether that is still to come.
    pub(super) fn await_room(&self, lane: i32, busy: usize) -> bool {
        let mut room = self.room.lock();
        let is_to_come = room.busy.lanes.get(&lane).is_some_and(|now| *now > busy);
        if is_to_come {
            room.awaited.insert(lane, busy);
        }
        is_to_come
    }

    /// Takes room for `count` items that were just claimed from a lane of this kind.
    pub(super) fn reserve(&self, lane: i32, kind: Kind, count: usize) {
        let room = &mut *self.room.lock();
        // A queue may get another handler while its items run: they stay counted under the kind they began with.
        let kind = *room.kinds.entry(lane).or_insert(kind);
        *room.busy.kinds.entry(kind).or_insert(0) += count;
        *room.busy.lanes.entry(lane).or_insert(0) += count;
    }

    pub(super) fn release(&self, lane: i32) {
        let mut is_awaited = false;
        {
            let room = &mut *self.room.lock();
            if let Entry::Occupied(mut count) = room.busy.lanes.entry(lane) {
                *count.get_mut() -= 1;
                let left = *count.get();
                let kind = room.kinds.get(&lane).copied().unwrap_or_default();
                if let Some(of_kind) = room.busy.kinds.get_mut(&kind) {
                    *of_kind -= 1;
                }
                if left == 0 {
                    count.remove();
                    room.kinds.remove(&lane);
                }
                is_awaited = room.awaited.get(&lane).is_some_and(|awaited| left <= *awaited);
                if is_awaited {
                    room.awaited.remove(&lane);
                }
            }
        }
        if is_awaited { self.wake.ring() } else { self.wake.room() }
    }

    /// Stops the attempt of an item whose end is no longer wanted; returns whether it ran here.
    pub(super) fn stop(&self, item: Uuid) -> bool {
        let handle = self.running.lock().get_mut(&item).and_then(|attempt| attempt.handle.take());
        if let Some(handle) = &handle {
            handle.abort();
        }
        handle.is_some()
    }

    /// Stops every attempt without writing an end: their leases are lost, or about to be.
    pub(super) fn abandon(&self) -> usize {
        let running = self.running.lock();
        for handle in running.values().filter_map(|attempt| attempt.handle.as_ref()) {
            handle.abort();
        }
        running.len()
    }

    /// Forgets the attempt that this claim began, if it is the newest of its item.
    fn forget(&self, claim: &Claim) -> Option<Attempt> {
        match self.running.lock().entry(claim.item) {
            Entry::Occupied(attempt) if attempt.get().lease == claim.lease => Some(attempt.remove()),
            _ => None,
        }
    }
}

/// The place that one claimed item takes. It is freed however the attempt stops.
struct Slot<O: Send + Sync + 'static> {
    floor: Arc<Floor>,
    settler: Settler<O>,
    claim: Option<Claim>,
    lane: i32,
}

impl<O: Send + Sync + 'static> Slot<O> {
    fn end(mut self, outcome: Option<O>) {
        if let Some(claim) = self.claim.take() {
            self.floor.forget(&claim);
            self.settler.end(Ended { claim, outcome });
        }
    }
}

impl<O: Send + Sync + 'static> Drop for Slot<O> {
    fn drop(&mut self) {
        // The claim is still here, so the attempt was aborted. If `stop` marked it, it ends without an outcome;
        // otherwise it was abandoned, and its lease is left to be reclaimed.
        if let Some(claim) = self.claim.take()
            && matches!(self.floor.forget(&claim), Some(Attempt { handle: None, .. }))
        {
            self.settler.end(Ended { claim, outcome: None });
        }
        self.floor.release(self.lane);
    }
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

/// One consumer as the engine sees it, whatever its outcome is.
pub(super) trait Desk: Send + Sync {
    fn refresh(&self, revision: i64) -> BoxFuture<'_, sqlx::Result<()>>;
    fn lanes(&self) -> Vec<Lane>;
    fn lane(&self, id: i32) -> Option<Lane>;
    fn owns(&self, lane: i32) -> bool;
    fn all(&self) -> Vec<i32>;
    /// Whether attempts of this lease run here, or their ends are not written yet.
    fn knows(&self, lease: Uuid) -> bool;
    /// How many ends are not written yet.
    fn unwritten(&self) -> usize;
    /// Starts what was claimed; its places are taken already.
    fn start(self: Arc<Self>, floor: Arc<Floor>, holding: Holding, claims: Vec<Claim>);
    fn reclaim<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        claims: Vec<Claim>,
    ) -> BoxFuture<'a, sqlx::Result<Settled>>;
    /// Like [`Desk::reclaim`], for what this process gives back by itself.
    fn give_back<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        claims: Vec<Claim>,
    ) -> BoxFuture<'a, sqlx::Result<Settled>>;
}

/// The desk of a consumer.
pub(super) struct DeskOf<C: Consumer> {
    pub(super) consumer: Arc<C>,
    pub(super) settler: Settler<C::Outcome>,
}

impl<C: Consumer> DeskOf<C> {
    /// Loads the items, however long the database is unreachable: the claims stay ours as long as the lease lives. Items
    /// that are too many to be read within the time of one statement are read in halves.
    async fn load(&self, claims: &[Claim], holding: &Holding) -> Vec<Run<C::Outcome>> {
        let mut pause = Duration::from_millis(50);
        let (mut runs, mut parts) = (Vec::with_capacity(claims.len()), vec![claims]);
        while let Some(part) = parts.pop() {
            match self.consumer.load(part.to_vec(), holding).await {
                Ok(loaded) => {
                    runs.extend(loaded);
                    continue;
                }
                Err(error) if part.len() > 1 && is_time_out(&error) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                    tracing::warn!(%error, items = part.len(), "cannot load claimed items at once; halving them");
                }
                Err(error) => {
                    parts.push(part);
                    tracing::warn!(%error, items = part.len(), "cannot load claimed items; trying again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        runs
    }
}

impl<C: Consumer> Desk for DeskOf<C> {
    fn refresh(&self, revision: i64) -> BoxFuture<'_, sqlx::Result<()>> {
        Box::pin(self.consumer.refresh(revision))
    }

    fn lanes(&self) -> Vec<Lane> {
        self.consumer.lanes()
    }

    fn lane(&self, id: i32) -> Option<Lane> {
        self.consumer.lane(id)
    }

    fn owns(&self, lane: i32) -> bool {
        self.consumer.owns(lane)
    }

    fn all(&self) -> Vec<i32> {
        self.consumer.all()
    }

    fn knows(&self, lease: Uuid) -> bool {
        self.settler.knows(lease)
    }

    fn unwritten(&self) -> usize {
        self.settler.unwritten()
    }

    fn start(self: Arc<Self>, floor: Arc<Floor>, holding: Holding, claims: Vec<Claim>) {
        self.settler.open(&claims);
        let tracker = floor.tracker.clone();
        tracker.spawn(async move {
            let mut waiting: HashMap<Uuid, Slot<C::Outcome>> = claims
                .iter()
                .map(|claim| {
                    let (floor, settler) = (Arc::clone(&floor), self.settler.clone());
                    (claim.item, Slot { floor, settler, claim: Some(claim.clone()), lane: claim.lane })
                })
                .collect();
            // Over: the slots are dropped without an end, and their leases are left to be reclaimed.
            let load = self.load(&claims, &holding);
            let Some(runs) = holding.tenure().over().run_until_cancelled(load).await else { return };
            for Run { claim, attempt } in runs {
                let Some(slot) = waiting.remove(&claim.item) else { continue };
                // The lock is held over the spawn, so that an attempt that ends at once finds itself listed, and
                // `abandon` misses none.
                let mut running = floor.running.lock();
                if holding.tenure().over().is_cancelled() {
                    drop(running);
                    return;
                }
                let (consumer, hold) = (Arc::clone(&self.consumer), holding.of(claim.lease));
                let handle = floor.tracker.spawn(async move {
                    let attempt = async {
                        hold.holds().await;
                        AssertUnwindSafe(attempt).catch_unwind().await
                    };
                    let ended = tokio::select! {
                        biased;
                        ended = attempt => Some(ended),
                        () = hold.undone() => None,
                    };
                    slot.end(ended.map(|ended| {
                        ended.unwrap_or_else(|panic| consumer.panicked(panic_message(&*panic)))
                    }));
                });
                let (lease, handle) = (claim.lease, Some(handle.abort_handle()));
                running.insert(claim.item, Attempt { lease, handle });
            }
            // The items that are left were deleted before they could run.
            for slot in waiting.into_values() {
                slot.end(None);
            }
        });
    }

    fn reclaim<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        claims: Vec<Claim>,
    ) -> BoxFuture<'a, sqlx::Result<Settled>> {
        Box::pin(async move {
            let lost = self.consumer.lost(&mut *tx, claims).await?;
            let lost: Vec<_> = lost.iter().collect();
            if lost.is_empty() { Ok(Settled::default()) } else { self.consumer.settle(tx, &lost).await }
        })
    }

    fn give_back<'a>(
        &'a self,
        tx: &'a mut PgConnection,
        claims: Vec<Claim>,
    ) -> BoxFuture<'a, sqlx::Result<Settled>> {
        Box::pin(async move {
            let mut unfinished = self.consumer.lost(&mut *tx, claims).await?;
            for end in &mut unfinished {
                end.outcome = Some(self.consumer.given_back());
            }
            let unfinished: Vec<_> = unfinished.iter().collect();
            if unfinished.is_empty() {
                Ok(Settled::default())
            } else {
                self.consumer.settle(tx, &unfinished).await
            }
        })
    }
}

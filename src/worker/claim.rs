//! The claim loop: takes due items for every lane that has room, and sleeps when there is nothing.

use super::desk::{Desk, Floor};
use super::lease::{Registered, Registration};
use super::marks::{Marks, Place, START};
use super::reclaim::reclaim;
use super::share;
use super::store::{self, Pulse, Wanted};
use super::{Claim, Lane};
use crate::db::{Database, bounded};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The most items that are promoted at once.
const PROMOTE_BATCH: i64 = 1000;
/// For how long the answer to a claim that failed may still turn into a lease: the statement timeout.
const LOST_CLAIM: Duration = Duration::from_secs(40);
/// The pause between two looks at the database grows from the first to the last while nothing is found.
/// While claims find something, a look has little to tell.
const BUSY_LOOK: Duration = Duration::from_millis(250);
/// A lane gathers room for this long at most, until a part of it is free, so that a claim takes several items.
const GATHER: Duration = Duration::from_millis(5);
/// That part.
const GATHERED: usize = 4;
const SHORTEST_LOOK: Duration = Duration::from_millis(50);
/// What SQL enqueues is found within this time; an idle server makes less than a statement a second.
const LONGEST_LOOK: Duration = Duration::from_millis(2500);

/// What the claim loop knows.
pub(super) struct Claims {
    db: Database,
    floor: Arc<Floor>,
    registration: Arc<Registration>,
    desks: Vec<Arc<dyn Desk>>,
    marks: Marks,
    /// Lanes that may have something to claim.
    hungry: HashSet<i32>,
    /// Lanes whose last claim found less than it asked for, but did not look below the mark.
    unsure: HashSet<i32>,
    /// Whether one of these only waits for the next sweep: it could run more at once.
    awaits_sweep: bool,
    /// When the next scheduled item is due, as far as known.
    due: Option<Instant>,
    next_look: Instant,
    pause: Duration,
    revision: i64,
    /// Until when there may be leases of ours that we do not know of, since the answer to a claim was lost.
    suspicious_until: Option<Instant>,
    /// When each lane was last claimed from.
    claimed_at: HashMap<i32, Instant>,
    /// When the first of the lanes that gather room may be claimed from again.
    gathers_until: Option<Instant>,
}

impl Claims {
    pub(super) fn new(
        db: Database,
        floor: Arc<Floor>,
        registration: Arc<Registration>,
        desks: Vec<Arc<dyn Desk>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            db,
            floor,
            registration,
            desks,
            marks: Marks::new(now),
            hungry: HashSet::new(),
            unsure: HashSet::new(),
            awaits_sweep: false,
            due: None,
            next_look: now,
            pause: SHORTEST_LOOK,
            revision: 0,
            suspicious_until: None,
            claimed_at: HashMap::new(),
            gathers_until: None,
        }
    }

    pub(super) async fn run(mut self, stop: &CancellationToken, beat: &(impl Fn() + Send + Sync)) {
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(true) => {
                    failures = 0;
                    beat();
                }
                Ok(false) => {
                    failures = 0;
                    beat();
                    stop.run_until_cancelled(self.rest()).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "cannot claim; trying again");
                    let pause = Duration::from_millis(50 * (1 << failures.min(5)));
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                    self.next_look = Instant::now();
                }
            }
        }
    }

    /// One round: does what there is to do, and says whether there may be more.
    async fn round(&mut self) -> sqlx::Result<bool> {
        self.hear();
        let Some(Registered { id, over }) = self.registration.current() else { return Ok(false) };
        let now = Instant::now();
        if now >= self.next_look {
            self.look().await?;
        }
        if self.due.is_some_and(|due| now >= due) {
            self.promote().await?;
        }
        let sweep = self.marks.sweep_is_due(now);
        let wanted = self.wanted(sweep);
        if wanted.is_empty() {
            return Ok(false);
        }
        let floor = Arc::clone(&self.floor);
        let claiming = floor.claiming.lock().await;
        let taken = bounded(store::claim(&self.db.worker, id, &wanted)).await.inspect_err(|_| {
            self.suspicious_until = Some(Instant::now() + LOST_CLAIM);
        })?;
        if sweep {
            let done = Instant::now();
            self.marks.swept(done, done - now);
        }
        let mut counts: HashMap<i32, i32> = HashMap::new();
        let mut claims: HashMap<i32, Vec<Claim>> = HashMap::new();
        for taken in taken {
            let claim = taken.claim;
            *counts.entry(claim.lane).or_insert(0) += 1;
            self.marks.taken(claim.lane, (claim.rank, taken.seq));
            claims.entry(claim.lane).or_default().push(claim);
        }
        let claimed_at = Instant::now();
        for Wanted { lane, room, .. } in &wanted {
            self.claimed_at.insert(*lane, claimed_at);
            if counts.get(lane).copied().unwrap_or(0) < *room {
                self.hungry.remove(lane);
                if sweep {
                    self.unsure.remove(lane)
                } else {
                    self.unsure.insert(*lane)
                };
            }
        }
        self.start(claims, &over);
        drop(claiming);
        if !counts.is_empty() {
            self.pause = self.pause.min(BUSY_LOOK);
        }
        Ok(true)
    }

    fn hear(&mut self) {
        let news = self.floor.wake.take();
        for (lane, rank) in news.ready {
            self.marks.made(lane, rank);
            self.hungry.insert(lane);
        }
        if let Some(at) = news.due {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
        if news.look {
            self.next_look = Instant::now();
        }
    }

    /// What to ask for: of every lane that may have something, as much as can start now.
    fn wanted(&mut self, sweep: bool) -> Vec<Wanted> {
        // Said before the room is counted: what comes free from here on rings the bell.
        self.floor.wake.set_starving(true);
        (self.awaits_sweep, self.gathers_until) = (false, None);
        let now = Instant::now();
        let (busy, total) = self.floor.busy();
        let busy = |lane: &Lane| busy.get(&lane.id).copied().unwrap_or(0);
        let capacity = self.registration.capacity;
        let mut left = capacity.saturating_sub(total);
        // What cannot be written must not pile up: ends wait in memory.
        if self.desks.iter().any(|desk| desk.unwritten() > 2 * capacity) {
            left = 0;
        }
        let mut starving = false;
        let mut wanted = Vec::new();
        let mut lanes: Vec<Lane> = self.desks.iter().flat_map(|desk| desk.lanes()).collect();
        // The least busy first, so that no lane keeps the others from what is left.
        lanes.sort_by_key(busy);
        for lane in lanes {
            let hungry = self.hungry.contains(&lane.id);
            if !hungry && !self.unsure.contains(&lane.id) {
                continue;
            }
            let free = lane.concurrency.saturating_sub(busy(&lane));
            let gathered = self.claimed_at.get(&lane.id).map(|at| *at + GATHER);
            if let Some(until) = gathered
                && free > 0
                && now < until
                && self.floor.await_room(lane.id, lane.concurrency - lane.concurrency.div_ceil(GATHERED))
            {
                self.gathers_until = Some(self.gathers_until.map_or(until, |soonest| soonest.min(until)));
                continue;
            }
            let room = share::room(lane, busy(&lane), left, capacity);
            if room == 0 {
                starving = true;
                continue;
            }
            if !hungry && !sweep {
                self.awaits_sweep = true;
                continue;
            }
            left -= room;
            let from = if sweep { START } else { self.marks.of(lane.id) };
            wanted.push(Wanted { lane: lane.id, room: i32::try_from(room).unwrap_or(i32::MAX), from });
        }
        self.floor.wake.set_starving(starving);
        wanted
    }

    fn start(&mut self, claims: HashMap<i32, Vec<Claim>>, over: &CancellationToken) {
        let mut by_desk: Vec<Vec<Claim>> = self.desks.iter().map(|_| Vec::new()).collect();
        for (lane, claims) in claims {
            self.floor.reserve(&claims);
            if let Some(desk) = self.desks.iter().position(|desk| desk.owns(lane)) {
                by_desk[desk].extend(claims);
                continue;
            }
            // Its queue went since we asked. The lease is ours and nobody knows it: give it back.
            for claim in claims {
                self.floor.release(claim.lane);
            }
            self.suspicious_until = Some(Instant::now() + LOST_CLAIM);
        }
        for (desk, claims) in self.desks.iter().zip(by_desk) {
            if !claims.is_empty() {
                Arc::clone(desk).start(Arc::clone(&self.floor), over.clone(), claims);
            }
        }
    }

    /// Looks at the database: for work that nobody told of, for the dead, for changed definitions.
    async fn look(&mut self) -> sqlx::Result<()> {
        let now = Instant::now();
        // As a claim does, a look starts at the marks, and looks below them when a sweep is due.
        let sweep = self.marks.sweep_is_due(now);
        let lanes: Vec<(i32, Place)> = self
            .desks
            .iter()
            .flat_map(|desk| desk.lanes())
            .map(|lane| (lane.id, if sweep { START } else { self.marks.of(lane.id) }))
            .collect();
        let Pulse { ready, next_due, dead_leases, revision } =
            bounded(store::pulse(&self.db.worker, &lanes, sweep)).await?;
        if sweep {
            self.marks.swept(Instant::now(), now.elapsed());
        }
        if revision != self.revision {
            for desk in &self.desks {
                desk.refresh(revision).await?;
            }
            let owned = |lane: i32| self.desks.iter().any(|desk| desk.owns(lane));
            self.marks.retain(owned);
            self.hungry.retain(|lane| owned(*lane));
            self.unsure.retain(|lane| owned(*lane));
            self.claimed_at.retain(|lane, _| owned(*lane));
            self.revision = revision;
            // Lanes that are new to us were not looked at: look again.
            self.pause = SHORTEST_LOOK;
            self.next_look = Instant::now();
            return Ok(());
        }
        if self.suspicious_until.is_some() {
            self.give_back_unknown().await?;
        }
        self.due =
            next_due.map(|seconds| Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default());
        self.unsure.extend(ready.iter().copied());
        self.hungry.extend(ready);
        if dead_leases && let Err(error) = reclaim(&self.db.worker, &self.desks, &self.floor.wake).await {
            tracing::warn!(%error, "cannot take back what dead workers hold; trying again");
        }
        // A tenth of jitter, so that processes that started together do not look together.
        self.next_look = Instant::now() + self.pause.mul_f64(rand::random_range(0.9..=1.1));
        self.pause = self.pause.mul_f64(1.5).min(LONGEST_LOOK);
        Ok(())
    }

    /// Gives back leases of ours that no attempt here belongs to: a claim was committed, its answer lost.
    /// Claims are made by this loop alone, so none is on its way now.
    async fn give_back_unknown(&mut self) -> sqlx::Result<()> {
        if self.suspicious_until.is_some_and(|until| Instant::now() > until) {
            self.suspicious_until = None;
        }
        let Some(worker) = self.registration.current() else { return Ok(()) };
        let mut unknown = bounded(store::leases_of(&self.db.worker, worker.id)).await?;
        unknown.retain(|lease| !self.desks.iter().any(|desk| desk.knows(*lease)));
        if !unknown.is_empty() {
            tracing::warn!(
                leases = unknown.len(),
                "the answer to a claim was lost: giving back what it took"
            );
            bounded(store::expire(&self.db.worker, &unknown)).await?;
            reclaim(&self.db.worker, &self.desks, &self.floor.wake).await?;
        }
        Ok(())
    }

    async fn promote(&mut self) -> sqlx::Result<()> {
        let moved = bounded(store::promote(&self.db.worker, PROMOTE_BATCH)).await?;
        let more = i64::try_from(moved.len()).unwrap_or(i64::MAX) == PROMOTE_BATCH;
        for (lane, rank) in moved {
            self.floor.wake.ready(lane, rank);
        }
        // When the next one is due, the next look says; it is soon.
        self.due = more.then(Instant::now);
        self.pause = SHORTEST_LOOK;
        self.next_look = self.next_look.min(Instant::now() + SHORTEST_LOOK);
        Ok(())
    }

    /// Sleeps until something rings, falls due, or it is time to look.
    async fn rest(&self) {
        let mut until = self.next_look;
        if let Some(due) = self.due {
            until = until.min(due);
        }
        if let Some(gathered) = self.gathers_until {
            until = until.min(gathered);
        }
        if self.awaits_sweep {
            until = until.min(self.marks.next_sweep());
        }
        if self.registration.current().is_none() {
            // The bell rings when there is a registration to claim under.
            until = Instant::now() + LONGEST_LOOK;
        }
        drop(tokio::time::timeout_at(until.into(), self.floor.wake.rung()).await);
    }
}

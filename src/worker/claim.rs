//! The claim loop: claims due items for every lane that has room, and sleeps when there are none. The claim statement
//! is the only thing it ever waits for.

use super::desk::{Desk, Floor, Kind};
use super::hold::Holding;
use super::lease::{Registered, Registration};
use super::marks::{Marks, START};
use super::reclaim::Reclaim;
use super::share::Share;
use super::store::{self, Wanted};
use super::{Claim, Lane};
use crate::db::by_id::{HashMap, HashSet};
use crate::db::{Database, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The most lanes in one claim; the rest are asked in the next one.
const LANES: usize = 256;
/// A lane waits up to this long for one part in [`GATHERED`] of its places to be free, so that a claim takes several
/// items rather than one.
const GATHER: Duration = Duration::from_millis(5);
/// See [`GATHER`].
const GATHERED: usize = 4;
/// How often the loop reports that it is alive while there is nothing to claim.
const REST: Duration = Duration::from_millis(2500);

/// What the claim loop knows.
pub(super) struct Claims {
    db: Database,
    floor: Arc<Floor>,
    registration: Arc<Registration>,
    desks: Vec<Arc<dyn Desk>>,
    marks: Arc<Mutex<Marks>>,
    reclaim: Arc<Reclaim>,
    /// Lanes that may have something to claim.
    hungry: HashSet<i32>,
    /// Lanes whose last claim found less than it asked for, without looking below the mark.
    unsure: HashSet<i32>,
    /// Whether one of these lanes has room and waits only for the next sweep.
    awaits_sweep: bool,
    /// When each lane was last claimed from.
    claimed_at: HashMap<i32, Instant>,
    /// When the first of the lanes that are gathering room may be claimed from again.
    gathers_until: Option<Instant>,
}

/// A lane that may have something to claim.
struct Candidate {
    lane: Lane,
    kind: Kind,
    busy: usize,
    claimed_at: Option<Instant>,
}

impl Claims {
    pub(super) fn new(
        db: Database,
        floor: Arc<Floor>,
        registration: Arc<Registration>,
        desks: Vec<Arc<dyn Desk>>,
        marks: Arc<Mutex<Marks>>,
        reclaim: Arc<Reclaim>,
    ) -> Self {
        Self {
            db,
            floor,
            registration,
            desks,
            marks,
            reclaim,
            hungry: HashSet::default(),
            unsure: HashSet::default(),
            awaits_sweep: false,
            claimed_at: HashMap::default(),
            gathers_until: None,
        }
    }

    pub(super) async fn run(mut self, stop: &CancellationToken, beat: impl Fn() + Send + Sync) {
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(more) => {
                    failures = 0;
                    beat();
                    if !more {
                        stop.run_until_cancelled(self.rest()).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "cannot claim; trying again");
                    let pause = Duration::from_millis(50 * (1 << failures.min(5)));
                    stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                    self.floor.wake.look();
                }
            }
        }
    }

    /// One round of the loop; returns whether there may be more to claim.
    async fn round(&mut self) -> sqlx::Result<bool> {
        self.hear();
        let Some(Registered { id, tenure }) = self.registration.current() else { return Ok(false) };
        let now = Instant::now();
        let sweep = self.marks.lock().sweep_is_due(now);
        let wanted = self.wanted(sweep);
        if wanted.is_empty() {
            return Ok(false);
        }
        let floor = Arc::clone(&self.floor);
        let claiming = floor.claiming.lock().await;
        let asked = Instant::now();
        let taken = bounded(store::claim(&self.db.worker, id, &wanted))
            .await
            .inspect_err(|_| self.reclaim.suspect())?;
        let mut counts: HashMap<i32, i32> = HashMap::default();
        let mut claims: HashMap<i32, Vec<Claim>> = HashMap::default();
        {
            let mut marks = self.marks.lock();
            if sweep {
                let done = Instant::now();
                marks.swept(done, done - now);
            }
            for taken in taken {
                let claim = taken.claim;
                *counts.entry(claim.lane).or_insert(0) += 1;
                marks.taken(claim.lane, (claim.rank, taken.seq));
                claims.entry(claim.lane).or_default().push(claim);
            }
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
        self.start(claims, |claims| {
            let leases = claims.iter().map(|claim| claim.lease).collect();
            Holding::new(tenure.clone(), self.db.worker.clone(), asked, leases)
        });
        drop(claiming);
        if !counts.is_empty() {
            self.floor.wake.set_busy();
        }
        Ok(true)
    }

    fn hear(&mut self) {
        let news = self.floor.wake.take();
        let mut marks = self.marks.lock();
        for (lane, rank) in news.ready {
            marks.made(lane, rank);
            self.hungry.insert(lane);
        }
        self.unsure.extend(news.found.iter().copied());
        self.hungry.extend(news.found);
        if news.changed {
            let owned = |lane: i32| self.desks.iter().any(|desk| desk.owns(lane));
            marks.retain(owned);
            self.hungry.retain(|lane| owned(*lane));
            self.unsure.retain(|lane| owned(*lane));
            self.claimed_at.retain(|lane, _| owned(*lane));
        }
    }

    /// The lane as its consumer defines it now, and its kind.
    fn lane(&self, id: i32) -> Option<(Lane, Kind)> {
        let found = |(place, desk): (usize, &Arc<dyn Desk>)| desk.lane(id).map(|lane| (lane, place));
        let (lane, place) = self.desks.iter().enumerate().find_map(found)?;
        Some((lane, lane.yields.then_some(place)))
    }

    /// The lanes that may have something, in the order in which they are asked: those with the fewest running items
    /// first, and among equals those that have waited longest, so that every lane gets its turn.
    fn candidates(&self, busy: &HashMap<i32, usize>) -> Vec<Candidate> {
        let unsure = self.unsure.iter().filter(|lane| !self.hungry.contains(lane));
        let mut candidates: Vec<Candidate> = self
            .hungry
            .iter()
            .chain(unsure)
            .filter_map(|id| {
                let (lane, kind) = self.lane(*id)?;
                let busy = busy.get(id).copied().unwrap_or(0);
                Some(Candidate { lane, kind, busy, claimed_at: self.claimed_at.get(id).copied() })
            })
            .collect();
        candidates.sort_unstable_by_key(|candidate| (candidate.busy, candidate.claimed_at));
        candidates
    }

    /// What to ask for: from every lane that may have something, as many items as can start now.
    fn wanted(&mut self, sweep: bool) -> Vec<Wanted> {
        // Set before the room is counted, so that any place that is freed from here on rings the bell.
        self.floor.wake.set_starving(true);
        (self.awaits_sweep, self.gathers_until) = (false, None);
        let now = Instant::now();
        let busy = self.floor.busy();
        let capacity = self.registration.capacity;
        let mut share = Share::new(capacity, &busy);
        // Ends that cannot be written wait in memory, and must not pile up there.
        if self.desks.iter().any(|desk| desk.unwritten() > 2 * capacity) {
            share.close();
        }
        let mut starving = false;
        let mut wanted = Vec::new();
        for Candidate { lane, kind, busy, claimed_at } in self.candidates(&busy.lanes) {
            if wanted.len() == LANES {
                self.awaits_sweep |= sweep;
                break;
            }
            let hungry = self.hungry.contains(&lane.id);
            let most = share.most(lane, kind, busy);
            if let Some(until) = claimed_at.map(|at| at + GATHER)
                && busy < most
                && now < until
                && self.floor.await_room(lane.id, most - most.div_ceil(GATHERED))
            {
                self.gathers_until = Some(self.gathers_until.map_or(until, |soonest| soonest.min(until)));
                continue;
            }
            let room = share.room(lane, kind, busy);
            if room == 0 {
                starving = true;
                continue;
            }
            if !hungry && !sweep {
                self.awaits_sweep = true;
                continue;
            }
            share.take(kind, room);
            let from = if sweep { START } else { self.marks.lock().of(lane.id) };
            wanted.push(Wanted { lane: lane.id, room: i32::try_from(room).unwrap_or(i32::MAX), from });
        }
        self.floor.wake.set_starving(starving);
        wanted
    }

    fn start(&self, claims: HashMap<i32, Vec<Claim>>, holding: impl Fn(&[Claim]) -> Holding) {
        let mut by_desk: Vec<Vec<Claim>> = self.desks.iter().map(|_| Vec::new()).collect();
        for (lane, claims) in claims {
            let Some(place) = self.desks.iter().position(|desk| desk.owns(lane)) else {
                // Its queue was deleted after we asked. The lease is ours and no desk knows it: have it reclaimed.
                self.reclaim.suspect();
                continue;
            };
            let yields = self.desks[place].lane(lane).is_some_and(|lane| lane.yields);
            self.floor.reserve(lane, yields.then_some(place), claims.len());
            by_desk[place].extend(claims);
        }
        for (desk, claims) in self.desks.iter().zip(by_desk) {
            if !claims.is_empty() {
                Arc::clone(desk).start(Arc::clone(&self.floor), holding(&claims), claims);
            }
        }
    }

    /// Sleeps until the bell rings or something is due.
    async fn rest(&self) {
        let mut until = Instant::now() + REST;
        // Without a registration nothing can be claimed; the bell rings when there is a new one.
        if self.registration.current().is_some() {
            if let Some(gathered) = self.gathers_until {
                until = until.min(gathered);
            }
            if self.awaits_sweep {
                until = until.min(self.marks.lock().next_sweep());
            }
        }
        drop(tokio::time::timeout_at(until.into(), self.floor.wake.rung()).await);
    }
}

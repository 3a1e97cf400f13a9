//! Tells the loops of this process at once that there is work, and has the other processes told ([`super::abroad`]). Both
//! only save time; what is there is found by polling too.

use super::Settled;
use super::abroad::Abroad;
use crate::db::by_id::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What happened since the claim loop last looked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Lanes in which something became ready, with its lowest rank.
    pub(super) ready: HashMap<i32, i16>,
    /// Lanes in which a look at the database found something.
    pub(super) found: Vec<i32>,
    /// Whether definitions are others now.
    pub(super) changed: bool,
}

fn note_ready(ready: &mut HashMap<i32, i16>, lane: i32, rank: i16) {
    ready.entry(lane).and_modify(|lowest| *lowest = rank.min(*lowest)).or_insert(rank);
}

/// What a waiting room has heard since it last asked.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Lanes in which something became ready, with its lowest rank.
    pub(super) ready: HashMap<i32, i16>,
    /// Whether to look at the database without waiting.
    pub(super) look: bool,
}

/// What one waiting room of remote workers hears by.
#[derive(Debug, Default)]
pub(super) struct Ear {
    heard: Mutex<Heard>,
    bell: Notify,
}

impl Ear {
    fn ready(&self, lane: i32, rank: i16) {
        note_ready(&mut self.heard.lock().ready, lane, rank);
        self.ring();
    }

    fn look(&self) {
        self.heard.lock().look = true;
        self.ring();
    }

    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// The waiting rooms of this process, and which of them hears of a lane.
#[derive(Debug, Default)]
struct Rooms {
    ears: Vec<Arc<Ear>>,
    watched: HashMap<i32, Arc<Ear>>,
}

/// The bell of one process. Cheap to ring.
#[derive(Debug, Default)]
pub struct Wake {
    news: Mutex<News>,
    bell: Notify,
    /// Rings when the database is to be looked at without waiting.
    looks: Notify,
    /// Whether claims found something since the last look.
    busy: AtomicBool,
    /// When the next scheduled item is due, as far as is known.
    due: Mutex<Option<Instant>>,
    /// Rings when that comes nearer.
    dues: Notify,
    /// What the other processes are to be told.
    pub(super) abroad: Abroad,
    starving: AtomicBool,
    /// Rings when every consumer knows of changed definitions.
    changes: Arc<Notify>,
    /// Where remote workers wait.
    rooms: Mutex<Rooms>,
}

impl Wake {
    /// Items of `rank` became ready in `lane`; called after their commit.
    pub fn ready(&self, lane: i32, rank: i16) {
        self.ready_here(lane, rank);
        if self.abroad.is_anybody() {
            self.abroad.tell_to_look();
        }
    }

    /// As [`Wake::ready`], when the other processes know.
    pub(super) fn ready_here(&self, lane: i32, rank: i16) {
        note_ready(&mut self.news.lock().ready, lane, rank);
        self.bell.notify_one();
        if let Some(ear) = self.rooms.lock().watched.get(&lane) {
            ear.ready(lane, rank);
        }
    }

    /// A log that others may follow has grown to this number; called after its commit.
    pub fn grew(&self, log: i64, newest: i64) {
        self.abroad.grew(log, newest);
    }

    /// A lane has room again for what remote workers may hold; called after the commit that made it.
    pub fn freed(&self, lane: i32) {
        // Nothing was made: no mark moves back.
        self.ready(lane, i16::MAX);
    }

    /// The ear of one more waiting room.
    pub(super) fn ear(&self) -> Arc<Ear> {
        let ear = Arc::<Ear>::default();
        self.rooms.lock().ears.push(Arc::clone(&ear));
        ear
    }

    /// From now on this ear hears what becomes ready in `lane`.
    pub(super) fn watch(&self, lane: i32, ear: &Arc<Ear>) {
        self.rooms.lock().watched.insert(lane, Arc::clone(ear));
    }

    /// Nobody waits for `lane` any more.
    pub(super) fn unwatch(&self, lane: i32) {
        self.rooms.lock().watched.remove(&lane);
    }

    /// Something was scheduled that becomes due after this time; called after its commit.
    pub fn due_after(&self, after: Duration) {
        let at = Instant::now() + after;
        let mut due = self.due.lock();
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.dues.notify_one();
        }
    }

    /// When the next scheduled item is due, as far as is known.
    pub(super) fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    /// What is due is taken up: what becomes due from here on is told anew.
    pub(super) fn take_due(&self) {
        *self.due.lock() = None;
    }

    /// Returns when something is due sooner than was known.
    pub(super) async fn sooner(&self) {
        self.dues.notified().await;
    }

    /// What a settlement made is there; called after its commit.
    pub(super) fn settled(&self, settled: &Settled) {
        for again in &settled.again {
            if again.after.is_zero() {
                self.ready(again.lane, again.rank);
            } else {
                self.due_after(again.after);
            }
        }
        for lane in &settled.woken {
            self.ready(*lane, 0);
        }
        if let Some(after) = settled.soonest {
            self.due_after(after);
        }
    }

    /// Definitions changed, or another process has news: look at the database now.
    pub fn look(&self) {
        self.looks.notify_one();
        self.bell.notify_one();
        self.rooms.lock().ears.iter().for_each(|ear| ear.look());
    }

    /// Returns when the database is to be looked at without waiting.
    pub(super) async fn look_asked(&self) {
        self.looks.notified().await;
    }

    /// A look found something in these lanes.
    pub(super) fn found(&self, lanes: Vec<i32>) {
        if !lanes.is_empty() {
            self.news.lock().found.extend(lanes);
            self.bell.notify_one();
        }
    }

    /// Definitions are others now: lanes came, went, or changed.
    pub(super) fn changed(&self) {
        self.news.lock().changed = true;
        self.bell.notify_one();
        self.changes.notify_one();
        self.rooms.lock().ears.iter().for_each(|ear| ear.look());
    }

    /// Rings when definitions are others now, and every consumer knows them. For one that waits.
    pub fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }

    /// Claims found something.
    pub(super) fn set_busy(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Whether claims found something since this was last asked.
    pub(super) fn take_busy(&self) -> bool {
        self.busy.swap(false, Ordering::Relaxed)
    }

    /// As [`Wake::look`], and the other processes too.
    pub fn look_everywhere(&self) {
        self.look();
        self.abroad.tell_to_look();
    }

    /// What the claim loop waits for is there.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// There may be room for more items: an attempt ended, or ends were written.
    pub(super) fn room(&self) {
        if self.starving.load(Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    pub(super) fn set_starving(&self, starving: bool) {
        self.starving.store(starving, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

//! The engine of one process: puts the loops together, starts them, stops them.

use super::abroad::Note;
use super::claim::Claims;
use super::desk::{Desk, DeskOf, Floor};
use super::give_back::give_back;
use super::learn::Learning;
use super::lease::Registration;
use super::look::Looks;
use super::marks::{Marks, START};
use super::reclaim::Reclaim;
use super::settle::Settler;
use super::{Consumer, Wake, abroad, listen, promote, store};
use crate::db::{Database, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long a process that stops tries to write ends, and to give back what did not end.
const WRITES: Duration = Duration::from_secs(5);

/// The engine of one process, before it runs.
pub struct Worker {
    db: Database,
    floor: Arc<Floor>,
    registration: Arc<Registration>,
    desks: Vec<Arc<dyn Desk>>,
    loops: TaskTracker,
    settled: Vec<Box<dyn Fn() -> bool + Send + Sync>>,
    grown: Box<dyn Fn(i64, i64) + Send + Sync>,
}

impl Worker {
    /// An engine that runs at most `capacity` items at once; its workers row lives for `lease` after each heartbeat, and
    /// tells what the process `runs` that another may not, in the words of the features.
    pub fn new(db: Database, name: String, lease: Duration, capacity: usize, runs: Vec<String>) -> Self {
        Self {
            db,
            floor: Arc::new(Floor::new(Arc::default())),
            registration: Arc::new(Registration::new(name, lease, capacity, runs)),
            desks: Vec::new(),
            loops: TaskTracker::new(),
            settled: Vec::new(),
            grown: Box::new(|_, _| {}),
        }
    }

    /// Calls `heard` with the number of a log and its newest entry when it has grown in another process, which
    /// rang [`Wake::grew`]. It only saves time: behind a transaction-mode pooler nothing is heard.
    pub fn hear_of_logs(&mut self, heard: impl Fn(i64, i64) + Send + Sync + 'static) {
        self.grown = Box::new(heard);
    }

    /// The bell to ring when there is work.
    pub fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.floor.wake)
    }

    /// What stops attempts whose end nobody wants any more.
    pub fn stopper(&self) -> Stopper {
        Stopper { floor: Arc::clone(&self.floor), db: self.db.clone() }
    }

    /// Adds a consumer; returns where its ends go, for claims made over HTTP.
    pub fn add<C: Consumer>(&mut self, consumer: Arc<C>) -> Settler<C::Outcome> {
        let (settler, run) =
            Settler::new(Arc::clone(&consumer), self.db.worker.clone(), Arc::clone(&self.floor.wake));
        self.loops.spawn(run);
        let watched = settler.clone();
        self.settled.push(Box::new(move || watched.is_idle()));
        self.desks.push(Arc::new(DeskOf { consumer, settler: settler.clone() }));
        settler
    }

    /// Starts the loops. Each has a name by which `watch` is asked for what it calls whenever it has done its duty, so
    /// that one that hangs, or goes round and does nothing, is seen.
    pub fn start<B: Fn() + Send + Sync + 'static>(self, watch: impl Fn(&'static str) -> B) -> Running {
        let stop = CancellationToken::new();
        let (db, floor, registration) = (self.db, self.floor, self.registration);
        let tasks = TaskTracker::new();
        let (heart, leave) = (TaskTracker::new(), CancellationToken::new());
        {
            let (db, floor, registration, leave) =
                (db.clone(), floor.clone(), registration.clone(), leave.clone());
            heart.spawn(async move { registration.keep(&db, &floor, &leave).await });
        }
        {
            let (db, floor, stop) = (db.clone(), floor.clone(), stop.clone());
            tasks.spawn(async move { floor.wake.abroad.pass_on(&db.worker, &stop).await });
        }
        {
            let (db, floor, stop) = (db.clone(), floor.clone(), stop.clone());
            let (wake, grown) = (floor.wake.clone(), self.grown);
            tasks.spawn(async move {
                let on_note = |note| match note {
                    Note::Look => wake.look(),
                    Note::Ready(lane, rank) => {
                        wake.ready_here(lane, rank);
                        wake.look();
                    }
                    Note::Stop(item) => _ = floor.stop(item),
                    Note::Grown(logs) => logs.into_iter().for_each(|(log, newest)| grown(log, newest)),
                };
                listen::listen(&wake, &db, on_note, &stop).await;
            });
        }
        let learning = Arc::new(Learning::default());
        let running = Running {
            learning: learning.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            leave,
            heart,
            loops: self.loops,
            floor: floor.clone(),
            registration: registration.clone(),
            db: db.clone(),
            desks: self.desks.clone(),
            settled: self.settled,
        };
        let (marks, desks) = (Arc::new(Mutex::new(Marks::new(std::time::Instant::now()))), self.desks);
        {
            let (db, floor, stop, beat) = (db.clone(), floor.clone(), stop.clone(), watch("promotion"));
            tasks.spawn(async move { promote::run(db, &floor.wake, &stop, beat).await });
        }
        {
            let (learning, floor, stop, beat) =
                (learning.clone(), floor.clone(), stop.clone(), watch("definitions"));
            let desks = desks.clone();
            tasks.spawn(async move { learning.run(&desks, &floor.wake, &stop, beat).await });
        }
        let reclaim = Arc::new(Reclaim::new(db.clone(), floor.clone(), registration.clone(), desks.clone()));
        {
            let (reclaim, stop, beat) = (reclaim.clone(), stop.clone(), watch("reclaim"));
            tasks.spawn(async move { reclaim.run(&stop, beat).await });
        }
        let looks = Looks {
            db: db.clone(),
            floor: floor.clone(),
            registration: registration.clone(),
            desks: desks.clone(),
            marks: marks.clone(),
            learning,
            reclaim: reclaim.clone(),
        };
        {
            let (stop, beat) = (stop.clone(), watch("look"));
            tasks.spawn(async move { looks.run(&stop, beat).await });
        }
        let claims = Claims::new(db, floor, registration, desks, marks, reclaim);
        let beat = watch("claim loop");
        tasks.spawn(async move { claims.run(&stop, beat).await });
        running
    }
}

/// Stops attempts whose end nobody wants any more.
#[derive(Clone)]
pub struct Stopper {
    floor: Arc<Floor>,
    db: Database,
}

impl Stopper {
    /// Stops the attempt of an item of a lane: here, and in the process that runs it if that is another.
    pub async fn stop(&self, lane: i32, item: Uuid) {
        if !self.floor.stop(item)
            && let Err(error) =
                bounded(store::tell_to_stop(&self.db.worker, lane, item, &Note::stop(item))).await
        {
            tracing::debug!(%error, "cannot tell another process to stop an item");
        }
    }
}

/// A running engine.
pub struct Running {
    learning: Arc<Learning>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Ends the heartbeat, which outlives the other loops: what runs must stay ours until its end is written.
    leave: CancellationToken,
    heart: TaskTracker,
    loops: TaskTracker,
    floor: Arc<Floor>,
    registration: Arc<Registration>,
    db: Database,
    desks: Vec<Arc<dyn Desk>>,
    settled: Vec<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Running {
    /// Waits until nothing is ready, running, overdue or unwritten. What is scheduled for later stays.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn idle(&self) -> sqlx::Result<()> {
        loop {
            // While nothing can be claimed, and first what runs and what is unwritten: either may put items back.
            let claiming = self.floor.claiming.lock().await;
            let resting = self.floor.total() == 0 && self.settled.iter().all(|idle| idle());
            let lanes: Vec<_> =
                self.desks.iter().flat_map(|desk| desk.lanes()).map(|lane| (lane.id, START)).collect();
            let pulse = store::pulse(&self.db.worker, &lanes, true).await?;
            drop(claiming);
            let overdue = pulse.next_due.is_some_and(|seconds| seconds <= 0.0);
            let quiet = pulse.ready.is_empty()
                && !overdue
                && !pulse.dead_leases
                && self.learning.knows(pulse.revision);
            if quiet && resting {
                return Ok(());
            }
            if !quiet {
                self.floor.wake.look();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What tells how many items are claimed here and not ended.
    pub fn busy(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let floor = Arc::clone(&self.floor);
        move || floor.total()
    }

    /// Stops claiming, lets what runs finish for at most `grace`, writes the ends, gives the rest back.
    pub async fn stop(self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stop.cancel();
        self.tasks.close();
        drop(timeout_at(deadline, self.tasks.wait()).await);
        self.floor.tracker.close();
        if timeout_at(deadline, self.floor.tracker.wait()).await.is_err() {
            self.registration.end();
            let stopped = self.floor.abandon();
            tracing::warn!(handlers = stopped, "the grace period is over: what still runs is given back");
        }
        let written = async {
            while !self.settled.iter().all(|idle| idle()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        drop(timeout(WRITES, written).await);
        // The heartbeat goes on meanwhile: what is to be given back must still be ours.
        if timeout(WRITES, self.give_back()).await.is_err() {
            tracing::warn!("cannot give back what still runs: no answer; it counts as lost");
        }
        self.loops.close();
        self.leave.cancel();
        self.heart.close();
        self.heart.wait().await;
        self.registration.leave(&self.db).await;
    }

    async fn give_back(&self) {
        let Some(worker) = self.registration.end() else { return };
        match give_back(&self.db.worker, &self.desks, worker).await {
            Ok(0) => {}
            Ok(items) => {
                tracing::info!(items, "gave back what did not finish within the grace period");
                if let Err(error) = bounded(abroad::notify(&self.db.worker, "")).await {
                    tracing::debug!(%error, "cannot tell other processes to look; they poll");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot give back what still runs; it counts as lost"),
        }
    }
}

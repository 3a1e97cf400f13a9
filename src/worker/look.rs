//! Looks at the database: for work that nobody told of, for items that are due, for the dead, for changed definitions.
//!
//! A look only passes on what it has seen. Who promotes, reclaims, learns and claims does that in a task of its own, so
//! that none of them keeps another waiting.

use super::desk::{Desk, Floor};
use super::learn::Learning;
use super::lease::Registration;
use super::marks::{Marks, Place, START};
use super::reclaim::Reclaim;
use super::store::{self, Pulse};
use crate::db::{Database, bounded};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The pause between two looks grows from the first to the last while nothing is claimed.
const SHORTEST: Duration = Duration::from_millis(50);
/// What nobody told of is found within this time; an idle server makes less than a statement a second.
const LONGEST: Duration = Duration::from_millis(2500);
/// The longest while claims find something.
const BUSY: Duration = Duration::from_millis(250);

/// After a look there is no other for so many times as long as it took.
const BREATH: u32 = 2;

/// What looks.
pub(super) struct Looks {
    pub(super) db: Database,
    pub(super) floor: Arc<Floor>,
    pub(super) registration: Arc<Registration>,
    pub(super) desks: Vec<Arc<dyn Desk>>,
    pub(super) marks: Arc<Mutex<Marks>>,
    pub(super) learning: Arc<Learning>,
    pub(super) reclaim: Arc<Reclaim>,
}

impl Looks {
    /// Looks until `stop`. A process that is not registered could do nothing about what it sees, and does not look.
    pub(super) async fn run(self, stop: &CancellationToken, beat: impl Fn() + Send + Sync) {
        let wake = Arc::clone(&self.floor.wake);
        let (mut pause, mut failures) = (SHORTEST, 0u32);
        while !stop.is_cancelled() {
            if self.registration.current().is_some() {
                let began = Instant::now();
                match self.look().await {
                    Ok(()) => {
                        failures = 0;
                        beat();
                        // However often the bell rings, the database has something else to do most of the time.
                        stop.run_until_cancelled(tokio::time::sleep(began.elapsed() * BREATH)).await;
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%error, failures, "cannot look for work; trying again");
                        pause = SHORTEST * (1 << failures.min(5));
                    }
                }
            }
            if wake.take_busy() {
                pause = pause.min(BUSY);
            }
            // A tenth of jitter, so that processes that started together do not look together.
            let rest = pause.mul_f64(rand::random_range(0.9..=1.1));
            stop.run_until_cancelled(tokio::time::timeout(rest, wake.look_asked())).await;
            pause = pause.mul_f64(1.5).min(LONGEST);
        }
    }

    async fn look(&self) -> sqlx::Result<()> {
        let now = Instant::now();
        // As a claim does, a look starts at the marks, and looks below them when a sweep is due.
        let sweep = self.marks.lock().sweep_is_due(now);
        let lanes: Vec<i32> = self.desks.iter().flat_map(|desk| desk.lanes()).map(|lane| lane.id).collect();
        let lanes: Vec<(i32, Place)> = {
            let marks = self.marks.lock();
            lanes.into_iter().map(|lane| (lane, if sweep { START } else { marks.of(lane) })).collect()
        };
        let Pulse { ready, next_due, dead_leases, revision } =
            bounded(store::pulse(&self.db.worker, &lanes, sweep)).await?;
        if sweep {
            self.marks.lock().swept(Instant::now(), now.elapsed());
        }
        let wake = &self.floor.wake;
        wake.found(ready);
        if let Some(seconds) = next_due {
            wake.due_after(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }
        if dead_leases {
            self.reclaim.ask();
        }
        self.learning.saw(revision);
        Ok(())
    }
}

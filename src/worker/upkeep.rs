//! The upkeep of a feature: its duties take turns, a bounded step at a time, so that none waits for the long work of
//! another.
//!
//! ```text
//!   due ──▶ a step ──▶ done: due again in ten minutes
//!    ▲        │ ├────▶ not now, or an error: the same, and the row says why
//!    └────────┘ └────▶ more: its turn comes again with the next round, and the row says what it is at
//! ```
//!
//! One process at a time has the upkeep, by a leased row, which also says what it has not come to the end of:
//! `postrider doctor` reads it.

use super::store;
use sqlx::postgres::PgPool;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often each duty is done, and by how much more at random: processes that started together drift apart.
const EVERY: Duration = Duration::from_mins(10);
const JITTER: u64 = 60_000;
/// How often the row is taken anew, and for how long: who dies with it keeps the others waiting so long.
const RENEW: Duration = Duration::from_mins(1);
const LEASE: Duration = Duration::from_mins(3);
/// Between two rounds of long work others have as much of the database's time as the last one took, within bounds.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing more to do for now.
    Done,
    /// There is more: what it is at, for people.
    More(&'static str),
    /// There is more, which cannot be done now: why, for people.
    Later(String),
}

/// What a feature has to keep up.
pub trait Upkeep: Send {
    /// Its name in `duties`.
    const NAME: &'static str;
    /// What there is to do; says what, after "cannot".
    type Duty: Copy + fmt::Display + Send + Sync + 'static;
    /// All of it, in the order of the turns.
    const DUTIES: &'static [Self::Duty];

    /// Does a part of a duty that takes a bounded time.
    fn step(&mut self, duty: Self::Duty) -> impl Future<Output = sqlx::Result<Step>> + Send;
}

/// Keeps a feature up until `stop`.
pub async fn run<U: Upkeep>(upkeep: U, pool: &PgPool, stop: &CancellationToken) {
    let turns = U::DUTIES.iter().map(|duty| Turn { duty: *duty, due: Instant::now(), note: None }).collect();
    let mut rounds = Rounds { upkeep, pool, holder: Uuid::new_v4(), renewed: None, told: None, turns };
    while !stop.is_cancelled() {
        // Who stops does not wait for it: whatever it is at is one transaction, or can be done again.
        let Some(pause) = stop.run_until_cancelled(rounds.round()).await else { break };
        let pause = pause.unwrap_or_else(|error| {
            tracing::warn!(%error, upkeep = U::NAME, "cannot see to the upkeep; trying again");
            RENEW
        });
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    if rounds.renewed.is_some()
        && let Err(error) = store::leave_duty(pool, U::NAME, rounds.holder).await
    {
        tracing::debug!(%error, upkeep = U::NAME, "cannot leave the upkeep to others; they take it in time");
    }
}

struct Rounds<'p, U: Upkeep> {
    upkeep: U,
    pool: &'p PgPool,
    holder: Uuid,
    /// When the row was last taken, while it is ours.
    renewed: Option<Instant>,
    /// What the row says, once it is known.
    told: Option<Option<String>>,
    turns: Vec<Turn<U::Duty>>,
}

struct Turn<D> {
    duty: D,
    due: Instant,
    /// What it has not come to the end of.
    note: Option<String>,
}

impl<U: Upkeep> Rounds<'_, U> {
    /// Has every duty that is due do a step; returns how long there is nothing to do.
    async fn round(&mut self) -> sqlx::Result<Duration> {
        let began = Instant::now();
        let mut is_busy = false;
        for turn in 0..self.turns.len() {
            if !self.hold().await? {
                return Ok(RENEW);
            }
            let Turn { duty, due, .. } = self.turns[turn];
            if due > Instant::now() {
                continue;
            }
            let (pause, note) = match self.upkeep.step(duty).await {
                Ok(Step::Done) => (every(), None),
                Ok(Step::More(what)) => (Duration::ZERO, Some(what.to_owned())),
                Ok(Step::Later(why)) => (every(), Some(why)),
                Err(error) => {
                    tracing::warn!(%error, upkeep = U::NAME, "cannot {duty}; trying again later");
                    (every(), Some(format!("cannot {duty}: {error}")))
                }
            };
            is_busy |= pause.is_zero();
            self.turns[turn] = Turn { duty, due: Instant::now() + pause, note };
        }
        self.tell().await?;
        if is_busy {
            return Ok(began.elapsed().clamp(REST.0, REST.1));
        }
        let next = self.turns.iter().map(|turn| turn.due).min().unwrap_or(began + RENEW);
        Ok(next.saturating_duration_since(Instant::now()).min(RENEW))
    }

    /// Takes the row, or keeps it; says whether it is ours. Whoever takes it does everything that there is to do.
    async fn hold(&mut self) -> sqlx::Result<bool> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW) {
            return Ok(true);
        }
        let at = Instant::now();
        let is_ours = store::take_duty(self.pool, U::NAME, self.holder, LEASE.as_secs_f64()).await?;
        if is_ours && self.renewed.is_none_or(|renewed| renewed.elapsed() > LEASE) {
            self.told = None;
            self.turns.iter_mut().for_each(|turn| turn.due = at);
        }
        self.renewed = is_ours.then_some(at);
        Ok(is_ours)
    }

    /// Has the row say what the duties have not come to the end of.
    async fn tell(&mut self) -> sqlx::Result<()> {
        let notes: Vec<&str> = self.turns.iter().filter_map(|turn| turn.note.as_deref()).collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        if self.told.as_ref() != Some(&note) {
            store::note_duty(self.pool, U::NAME, self.holder, note.as_deref()).await?;
            self.told = Some(note);
        }
        Ok(())
    }
}

fn every() -> Duration {
    EVERY + Duration::from_millis(rand::random_range(0..=JITTER))
}

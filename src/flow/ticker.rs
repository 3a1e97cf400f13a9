//! Fires schedules, whatever they make.
//!
//! ```text
//!   schedules: due ─lock─▶ its feature plans ─▶ ticks: a row a moment, once ─▶ its feature makes ─▶ schedules: next
//!                                 all in one transaction, one kind at a time
//! ```
//!
//! It sleeps until the earliest moment, and looks anew when a definition may have changed; without a schedule it asks the
//! database nothing. Every process has one, and none leads: whoever locks a due row first fires it, and the row in
//! `ticks` is there once. What is due is so by the database's clock alone. Many fire in one transaction, as many are due
//! at once: all of one minute.

use super::cadence::{Comes, Turn};
use super::store::schedules::{self, Due, Step, Tick};
use crate::db::{self, Database, bounded};
use crate::http::metrics::install;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The most schedules that fire in one transaction.
const BATCH: i64 = 500;
/// The longest sleep: the database's clock may be set.
const LONGEST: Duration = Duration::from_mins(10);
/// The pause when the database is away, and when another process fires what is due.
const AWAY: Duration = Duration::from_secs(2);
const TAKEN: Duration = Duration::from_millis(200);

/// Moments of schedules that this process saw to, by `kind` (queue, mapping, poller) and `outcome` (fired, overlapped,
/// missed).
const RUNS: &str = "postrider_schedule_runs_total";
/// From the moment until it fired, in seconds, by `kind`.
const DELAY: &str = "postrider_schedule_delay_seconds";

/// What a feature knows of its schedules.
pub trait Fires: Send + Sync + 'static {
    /// Their `kind` in the table.
    const KIND: &'static str;
    /// What it takes to make what one firing makes.
    type Plan: Send;

    /// Says what is to be done about each of these, whose rows are locked. One of which nothing is said is left as it is,
    /// and comes again.
    fn plan(
        &self,
        tx: &mut PgConnection,
        due: &[Due],
    ) -> impl Future<Output = sqlx::Result<Vec<Planned<Self::Plan>>>> + Send;

    /// Makes what these firings make, whose moments had not come before.
    fn make(
        &self,
        tx: &mut PgConnection,
        plans: Vec<Self::Plan>,
    ) -> impl Future<Output = sqlx::Result<Made>> + Send;
}

/// What firings made.
#[derive(Default)]
pub struct Made {
    /// Lanes in which something became ready, with its lowest rank.
    pub ready: Vec<(i32, i16)>,
    /// By their owners, those that did not make what was planned: what else, or nothing, since what there is has not ended.
    pub instead: HashMap<i32, Option<Uuid>>,
    /// Counts it, once it is committed.
    pub count: Option<Box<dyn FnOnce() + Send>>,
}

/// What is to be done about a schedule that is due.
#[derive(Debug)]
pub struct Planned<P> {
    /// Its owner.
    owner: i32,
    what: What<P>,
    next: Option<DateTime<Utc>>,
}

#[derive(Debug)]
enum What<P> {
    /// Its moment fires.
    Makes(DateTime<Utc>, Option<Uuid>, P),
    /// Its moment comes to nothing, for this reason.
    Passes(DateTime<Utc>, &'static str),
    /// No moment has come.
    Nothing,
}

impl<P> Planned<P> {
    /// What `turn` says; if the moment fires, `makes` says what that makes, with its id if it has one, or `None` because
    /// what the one before made has not ended.
    pub fn of(owner: i32, turn: &Turn, makes: impl FnOnce() -> Option<(Option<Uuid>, P)>) -> Self {
        let what = match turn.comes {
            Comes::NotYet => What::Nothing,
            Comes::Missed => What::Passes(turn.at, "missed"),
            Comes::Now => match makes() {
                Some((item, plan)) => What::Makes(turn.at, item, plan),
                None => What::Passes(turn.at, "overlapped"),
            },
        };
        Self { owner, what, next: turn.next }
    }

    /// It never fires: it is switched off, or its definition cannot be used here. The next one that is put sets it.
    pub fn never(owner: i32) -> Self {
        Self { owner, what: What::Nothing, next: None }
    }

    fn tick(&self) -> Option<Tick> {
        let (at, outcome, item) = match &self.what {
            What::Makes(at, item, _) => (*at, "fired", *item),
            What::Passes(at, why) => (*at, *why, None),
            What::Nothing => return None,
        };
        Some(Tick { owner: self.owner, at, outcome, item })
    }
}

/// What one transaction did.
#[derive(Default)]
struct Fired {
    /// Whether it saw to anything.
    any: bool,
    /// What it made.
    made: Made,
    /// Moments that came, by kind and outcome, each with how long after it that was.
    came: Vec<(&'static str, &'static str, Duration)>,
}

/// [`Fires`] of any feature.
trait Kind: Send + Sync {
    fn kind(&self) -> &'static str;
    fn fire<'a>(&'a self, tx: &'a mut PgConnection, due: &'a [Due]) -> BoxFuture<'a, sqlx::Result<Fired>>;
}

impl<F: Fires> Kind for F {
    fn kind(&self) -> &'static str {
        F::KIND
    }

    fn fire<'a>(&'a self, tx: &'a mut PgConnection, due: &'a [Due]) -> BoxFuture<'a, sqlx::Result<Fired>> {
        Box::pin(async move {
            let planned = self.plan(&mut *tx, due).await?;
            let ticks: Vec<Tick> = planned.iter().filter_map(Planned::tick).collect();
            let new = schedules::note(&mut *tx, F::KIND, &ticks).await?;
            let mut fired = Fired { any: !planned.is_empty(), ..Fired::default() };
            let (mut steps, mut plans) = (Vec::with_capacity(planned.len()), Vec::new());
            for Planned { owner, what, next } in planned {
                let mut step = Step { owner, next, made: false, item: None };
                if let What::Makes(_, item, plan) = what
                    && new.contains(&owner)
                {
                    (step.made, step.item) = (true, item);
                    plans.push(plan);
                }
                steps.push(step);
            }
            let mut ticks: Vec<Tick> = ticks.into_iter().filter(|tick| new.contains(&tick.owner)).collect();
            if !plans.is_empty() {
                fired.made = self.make(&mut *tx, plans).await?;
                if !fired.made.instead.is_empty() {
                    change(&mut ticks, &mut steps, &fired.made.instead);
                    schedules::change(&mut *tx, F::KIND, &ticks).await?;
                }
            }
            if let Some(now) = due.first().map(|due| due.now) {
                let late = |tick: &Tick| (now - tick.at).to_std().unwrap_or_default();
                fired.came = ticks.iter().map(|tick| (F::KIND, tick.outcome, late(tick))).collect();
            }
            schedules::move_on(tx, F::KIND, &steps).await?;
            Ok(fired)
        })
    }
}

/// Has moments and schedules say what was made in the place of what was planned.
fn change(ticks: &mut [Tick], steps: &mut [Step], instead: &HashMap<i32, Option<Uuid>>) {
    for tick in ticks {
        if let Some(item) = instead.get(&tick.owner) {
            tick.item = *item;
            tick.outcome = if item.is_some() { tick.outcome } else { "overlapped" };
        }
    }
    for step in steps {
        if let Some(item) = instead.get(&step.owner) {
            (step.made, step.item) = (item.is_some(), *item);
        }
    }
}

/// Tells the engine that an item of a rank became ready in a lane.
type Ready = dyn Fn(i32, i16) + Send + Sync;

/// What fires schedules.
#[derive(Clone)]
pub struct Ticker {
    db: Database,
    kinds: Vec<Arc<dyn Kind>>,
    ready: Arc<Ready>,
    bell: Arc<Notify>,
}

impl Ticker {
    /// Looks anew when `bell` rings, since a definition may have changed, and calls `ready` after the commit.
    pub fn new(db: Database, bell: Arc<Notify>, ready: impl Fn(i32, i16) + Send + Sync + 'static) -> Self {
        describe();
        Self { db, kinds: Vec::new(), ready: Arc::new(ready), bell }
    }

    /// Fires these too.
    pub fn add(&mut self, fires: impl Fires) {
        self.kinds.push(Arc::new(fires));
    }

    /// Fires what is due until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot fire schedules; trying again");
                Some(AWAY)
            });
            let rung = self.bell.notified();
            match pause {
                Some(pause) => {
                    stop.run_until_cancelled(tokio::time::timeout(pause.min(LONGEST), rung)).await;
                }
                None => drop(stop.run_until_cancelled(rung).await),
            }
        }
    }

    /// Fires all that is due; returns how long there is nothing to do, `None` without an end. One kind that fails keeps no
    /// other from firing.
    async fn round(&self) -> sqlx::Result<Option<Duration>> {
        loop {
            let ahead = bounded(schedules::ahead(&self.db.worker)).await?;
            let Some(seconds) = ahead.seconds else { return Ok(None) };
            if seconds > 0.0 && !ahead.is_astray {
                // Not a moment too early: the database's clock has microseconds.
                return Ok(Some(Duration::try_from_secs_f64(seconds + 0.001).unwrap_or(LONGEST)));
            }
            let (mut any, mut failed) = (false, None);
            for kind in &self.kinds {
                match self.fire(kind, ahead.is_astray).await {
                    Ok(fired) => any |= fired,
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => return Err(error),
                None if !any => return Ok(Some(TAKEN)),
                None => {}
            }
        }
    }

    /// Fires what is due of one kind, at most [`BATCH`]; says whether it saw to anything.
    async fn fire(&self, kind: &Arc<dyn Kind>, is_astray: bool) -> sqlx::Result<bool> {
        let kind = Arc::clone(kind);
        let fired = db::transaction::<_, sqlx::Error, _>(&self.db.worker, move |tx| {
            Box::pin(async move {
                let mut due = schedules::lock_due(&mut *tx, kind.kind(), BATCH).await?;
                if is_astray {
                    let known: HashSet<i32> = due.iter().map(|due| due.owner).collect();
                    let astray = schedules::lock_astray(&mut *tx, kind.kind(), BATCH).await?.into_iter();
                    due.extend(astray.filter(|due| !known.contains(&due.owner)));
                }
                if due.is_empty() { Ok(Fired::default()) } else { kind.fire(tx, &due).await }
            })
        })
        .await?;
        for (lane, rank) in &fired.made.ready {
            (self.ready)(*lane, *rank);
        }
        if let Some(count) = fired.made.count {
            count();
        }
        for (kind, outcome, late) in &fired.came {
            counter!(RUNS, "kind" => *kind, "outcome" => *outcome).increment(1);
            if *outcome == "fired" {
                histogram!(DELAY, "kind" => *kind).record(*late);
            }
        }
        Ok(fired.any)
    }
}

fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        install();
        describe_counter!(RUNS, Unit::Count, "Moments of schedules that this process saw to");
        describe_histogram!(DELAY, Unit::Seconds, "Time from a moment of a schedule until it fired");
    });
}

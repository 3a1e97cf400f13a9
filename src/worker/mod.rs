//! One engine for everything that is claimed: claim, run, settle, retry, reclaim.
//!
//! ```text
//!           push                        claim                      settle
//! (commit) ───────▶ dispatch ─────────────────▶ leases ─────────────────────▶ the consumer's outcome
//!                    ▲   ▲      row deleted,            row deleted with its
//!           promote  │   │      lease row made          last item's outcome
//!                scheduled ◀────────────────────── retry, reclaim
//! ```
//!
//! The engine knows an item as *(lane, item)*. What an item is, how it is run and how its end is written
//! is its [`Consumer`]'s: the queues are one, the hub's deliveries another. Nothing is held while an item
//! runs: no transaction, no connection. The files, one duty each:
//!
//! | file | duty |
//! | --- | --- |
//! | `claim.rs` | takes due items in batches, for every lane that has room |
//! | `share.rs` | how much of the process's room a lane may take |
//! | `marks.rs` | where in a lane the dead index entries end |
//! | `desk.rs` | runs what was claimed, counts the room, stops what must stop |
//! | `settle.rs` | takes ends in, and writes them in batches |
//! | `batch.rs` | where a batch ends: items, bytes, time |
//! | `flush.rs` | the fenced transaction in which many ends are written |
//! | `unwritten.rs` | counts the ends that wait in memory, and rings when they get fewer |
//! | `lines.rs` | lines for the log, written after the commit of what they tell |
//! | `aside.rs` | finds the end that the database does not take, while the others go on |
//! | `look.rs` | looks at the database, and passes on what it sees to the following |
//! | `promote.rs` | moves items whose time has come to where they are claimed |
//! | `reclaim.rs`, `later.rs` | gives back what dead workers held; what cannot be had now, later |
//! | `give_back.rs` | gives back what a process holds that is told to stop |
//! | `learn.rs` | has the consumers learn of changed definitions |
//! | `definitions.rs` | what a process knows of a kind of definition, refreshed by what is newer |
//! | `lease.rs` | registers, renews, registers anew |
//! | `tenure.rs` | says right before each start whether what was claimed is still ours |
//! | `remote/` | claims for remote workers: one look for all who wait for a lane |
//! | `wake.rs`, `abroad.rs` | tell the loops that there is work, here and in other processes |
//! | `listen.rs` | hears what other processes tell |
//! | `delay.rs` | how long until the next attempt |
//! | `upkeep.rs` | has the duties of an upkeep take turns, a bounded step at a time |
//! | `retention/` | weekly partitions: made ahead, dropped when their time is over |
//! | `why/` | why an item is not running: what a reason is, and those that the engine knows |
//! | `engine.rs` | puts the loops together, starts and stops them |
//! | `store/` | all SQL of `dispatch`, `scheduled`, `workers`, `leases` |
//!
//! Each loop is a task of its own, and none waits for another: the claim loop waits for claims alone. Each tells
//! `/readyz` when it has done its duty ([`Worker::start`]).

pub mod batch;
pub mod definitions;
pub mod delay;
pub mod remote;
pub mod retention;
pub mod store;
pub mod upkeep;
pub mod why;

mod abroad;
mod aside;
mod claim;
mod desk;
mod engine;
mod flush;
mod give_back;
mod hold;
mod later;
mod learn;
mod lease;
mod lines;
mod listen;
mod look;
mod marks;
mod promote;
mod reclaim;
mod settle;
mod share;
mod tenure;
mod unwritten;
mod wake;

pub use desk::panic_message;
pub use engine::{Running, Stopper, Worker};
pub use flush::LOST_CLAIMS;
pub use hold::{Hold, Holding};
pub use lines::Lines;
pub use settle::{Settler, Stopping};
pub use wake::Wake;

use crate::traces::Tried;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::postgres::PgConnection;
use std::future::Future;
use std::time::Duration;
use uuid::Uuid;

/// One item, taken by one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The fence: an end counts only while this lease exists.
    pub lease: Uuid,
    /// The item's lane.
    pub lane: i32,
    /// The item's negated priority.
    pub rank: i16,
    /// The item.
    pub item: Uuid,
    /// Which attempt this is, counted from 1.
    pub attempt: i16,
    /// When it was claimed, by the database's clock.
    pub claimed_at: DateTime<Utc>,
    /// Whether its feature has to find it by the item alone while no attempt of it counts.
    pub traceable: bool,
}

impl Claim {
    /// What its span is known by; `message` is the message that the item is for.
    pub fn tried(&self, message: Uuid) -> Tried {
        Tried { message, item: self.item, lease: self.lease }
    }

    /// Its item as if it had not been claimed, ready after this time.
    fn not_counted(self, after: Duration) -> Again {
        let Self { lane, rank, item, attempt, traceable, .. } = self;
        Again { lane, rank, item, attempt: attempt - 1, after, traceable }
    }
}

/// A lane that may be claimed from, and how many of its items may run at once in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Its id.
    pub id: i32,
    /// The most items at once.
    pub concurrency: usize,
    /// Whether its items wait for servers of strangers, many of which may hang at once: it leaves more of the process's
    /// room to others.
    pub yields: bool,
}

/// A claimed item, ready to run.
pub struct Run<O> {
    /// The claim.
    pub claim: Claim,
    /// The attempt. It keeps its own time limit; dropping it stops it.
    pub attempt: BoxFuture<'static, O>,
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Ended<O> {
    /// The claim that ran it.
    pub claim: Claim,
    /// How it ended; `None` when it was stopped since nobody wants its end any more.
    pub outcome: Option<O>,
}

/// An item that goes back to be claimed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// Its lane.
    pub lane: i32,
    /// Its negated priority.
    pub rank: i16,
    /// The item.
    pub item: Uuid,
    /// How many attempts count so far.
    pub attempt: i16,
    /// How long it waits, at millisecond precision; zero is at once.
    pub after: Duration,
    /// As of its claim, if that attempt does not count.
    pub traceable: bool,
}

/// What a settlement did.
#[derive(Debug, Default)]
pub struct Settled {
    /// How many of the ends were written.
    pub written: usize,
    /// What is to be claimed again.
    pub again: Vec<Again>,
    /// Lanes in which it made other items ready.
    pub woken: Vec<i32>,
    /// When the first of the other items that it scheduled is due.
    pub soonest: Option<Duration>,
    /// What the log is to say of it.
    pub lines: Lines,
}

/// Claims and processes one kind of work.
pub trait Consumer: Send + Sync + 'static {
    /// How an attempt ends.
    type Outcome: Send + Sync + 'static;

    /// Learns of changed definitions, unless it knows the catalog's `revision` already. What is claimed meanwhile is
    /// loaded and run by what is known.
    fn refresh(&self, revision: i64) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// The lanes it would claim from now.
    fn lanes(&self) -> Vec<Lane>;

    /// The lane of this id, if it would claim from it now.
    fn lane(&self, id: i32) -> Option<Lane>;

    /// Whether this lane is its own, paused or not.
    fn owns(&self, lane: i32) -> bool;

    /// All its lanes, paused or not.
    fn all(&self) -> Vec<i32>;

    /// Reads what the claimed items need and makes them ready to run. An item that is not there any more is
    /// left out. An attempt that waits before it starts anything, or starts several things, awaits
    /// [`Hold::holds`] right before each.
    fn load(
        &self,
        claims: Vec<Claim>,
        holding: &Holding,
    ) -> impl Future<Output = sqlx::Result<Vec<Run<Self::Outcome>>>> + Send;

    /// Writes how attempts ended (each has an outcome), in the transaction that holds their leases. None of
    /// them is written yet, as far as [`Consumer::lost`] can see: where the commit of a former settlement was cut
    /// off and may still come, its rows must stand in the way of these.
    fn settle(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Self::Outcome>],
    ) -> impl Future<Output = sqlx::Result<Settled>> + Send;

    /// About how many bytes an outcome writes, all that it causes included: batches of ends are bounded by it.
    fn weight(outcome: &Self::Outcome) -> usize;

    /// How an attempt ends whose end the database will not take (a result that it cannot parse, say), or not in the
    /// time that a statement has. `outcome` is that end, if it had one.
    fn refused(&self, outcome: Option<&Self::Outcome>, error: &sqlx::Error) -> Self::Outcome;

    /// How an attempt ends that panicked.
    fn panicked(&self, message: &str) -> Self::Outcome;

    /// How an attempt ends that this process gives back, since it was told to stop: again at once, not counted.
    fn given_back(&self) -> Self::Outcome;

    /// Of the items of a dead lease, those whose attempt has not ended, each with the end that a lost worker
    /// gives it. An item that is gone is left out. The lease is locked; this is a statement after that one.
    fn lost(
        &self,
        tx: &mut PgConnection,
        claims: Vec<Claim>,
    ) -> impl Future<Output = sqlx::Result<Vec<Ended<Self::Outcome>>>> + Send;

    /// Of these ends, each with an outcome, those that the database holds as they are: the lease and the item of each.
    /// What the reclaim, or anybody else, wrote under the same lease is another end.
    fn written(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Self::Outcome>],
    ) -> impl Future<Output = sqlx::Result<Vec<(Uuid, Uuid)>>> + Send;
}

//! Retention: weekly partitions are made ahead, and dropped when their time is over. One part for every feature whose
//! tables grow with time.
//!
//! A [`Feature`] names its tables, whose ids are `UUIDv7`, and answers two questions: which rows of a week must stay
//! though its time is over, and which rows outside every week may go. The rest is the same for all:
//!
//! ```text
//!            two weeks ahead            its time is over               dropped
//!  (nothing) ───────────────▶ open ─────────────────────▶ leaving ─────────────▶ (nothing)
//!      ▲                                                      │ what must stay
//!      │ its week is made and takes them in                   ▼
//!      └─────────────────────────────────────────── the default partition ──▶ deleted in batches
//! ```
//!
//! What must stay does not keep what may go: it moves to the default partition, where every lookup by id finds it,
//! and is deleted there once nobody wants it. What must stay is asked from small tables and partial indexes, never
//! from the rows of the week. A table is locked only when nobody has been using it for long, and for moments
//! (`quiet.rs`): whoever waits for a lock makes everybody wait who comes later.
//!
//! `DETACH PARTITION CONCURRENTLY` would need no such care, but PostgreSQL refuses it where there is a default
//! partition, and one must be there for ids of a clock that jumped. It also cannot be part of a transaction: what
//! moves would be missing between two of them.
//!
//! Weeks in which little lies are made by every process, beside its work and not before it. The rest are duties of the
//! upkeep ([`super::upkeep`]), each a bounded step at a time: rows that lie outside their weeks move in pieces, weeks go
//! one after another, and what is deleted is deleted in batches.
//!
//! | file | decision |
//! | --- | --- |
//! | `feature.rs` | what is to be known of a feature |
//! | `ahead.rs` | which weeks are to be made ahead |
//! | `adopt.rs` | how what lies outside its week comes into it |
//! | `piece.rs` | how one is made |
//! | `span.rs` | where weeks begin, and what of one is missing |
//! | `leave.rs` | how a week whose time is over goes |
//! | `quiet.rs` | when a table may be locked |
//! | `forget.rs` | rows of other tables that are deleted by their age |
//! | `bounds.rs` | what bounds each table |

mod adopt;
mod ahead;
pub mod bounds;
mod feature;
mod forget;
mod leave;
mod piece;
mod quiet;
mod span;

pub use ahead::keep_ahead;
pub use feature::{Feature, Swept};
pub use forget::{Old, forget};
pub use span::week_of;

use super::store;
use super::upkeep::Step;
use crate::db;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgPool;
use std::fmt;
use std::marker::PhantomData;
use uuid::Uuid;

/// A week goes this long after its time is over. Ends that come within this time of their push are over by then, so
/// only those that come later have to be asked for: the statements that write ends mark them `late`, by this time.
const LATE: TimeDelta = TimeDelta::days(1);
/// Rows in one step of the sweep.
const WINDOW: i64 = 2000;

/// What retention does, a duty each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Moves what lies outside its week into it.
    Adopt,
    /// Drops weeks whose time is over.
    Leave,
    /// Deletes what lies outside the weeks and need not stay.
    Sweep,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adopt => "move rows into their weeks",
            Self::Leave => "drop weeks",
            Self::Sweep => "delete what lies outside the weeks",
        })
    }
}

/// The retention of one feature.
#[derive(Debug)]
pub struct Retention<F> {
    /// The weeks that are over were seen to up to this one.
    left: DateTime<Utc>,
    /// Up to where the default partitions were looked through.
    swept: Uuid,
    /// Whether it was said that rows lie outside their weeks.
    told: bool,
    feature: PhantomData<F>,
}

impl<F> Default for Retention<F> {
    fn default() -> Self {
        Self { left: DateTime::UNIX_EPOCH, swept: Uuid::nil(), told: false, feature: PhantomData }
    }
}

impl<F: Feature> Retention<F> {
    /// A step of a part of it, which lets go what ended before `keep_after`.
    ///
    /// # Errors
    /// The database's; what was done stays done.
    pub async fn step(&mut self, pool: &PgPool, part: Part, keep_after: DateTime<Utc>) -> sqlx::Result<Step> {
        match part {
            Part::Adopt => self.adopt(pool, keep_after).await,
            Part::Leave => self.leave(pool, keep_after).await,
            Part::Sweep => self.sweep(pool, keep_after).await,
        }
    }

    /// Moves the next rows into their week. It is said before the first of them move: that takes its time.
    async fn adopt(&mut self, pool: &PgPool, keep_after: DateTime<Utc>) -> sqlx::Result<Step> {
        let Some(piece) = adopt::next::<F>(pool, keep_after).await? else {
            self.told = false;
            return Ok(Step::Done);
        };
        if !std::mem::replace(&mut self.told, true) {
            return Ok(Step::More(adopt::MOVES));
        }
        adopt::make::<F>(pool, piece).await
    }

    /// Drops the next week. One that stays has a note that says why.
    async fn leave(&mut self, pool: &PgPool, keep_after: DateTime<Utc>) -> sqlx::Result<Step> {
        let weeks = store::weeks_before(pool, F::NAME, keep_after - LATE).await?;
        let left = self.left;
        let mut weeks = weeks.into_iter().filter(|week| week.starts > left);
        let Some(week) = weeks.next() else {
            self.left = DateTime::UNIX_EPOCH;
            return Ok(Step::Done);
        };
        self.left = week.starts;
        if let Err(error) = leave::leave::<F>(pool, &week, keep_after).await {
            // The others do not wait for it.
            tracing::warn!(%error, feature = F::NAME, week = week.suffix, "cannot drop a week; trying again later");
        }
        if weeks.next().is_some() {
            return Ok(Step::More("it drops weeks whose time is over"));
        }
        self.left = DateTime::UNIX_EPOCH;
        Ok(Step::Done)
    }

    async fn sweep(&mut self, pool: &PgPool, keep_after: DateTime<Utc>) -> sqlx::Result<Step> {
        let (before, after) = (db::ids::floor(keep_after), self.swept);
        let swept = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(F::sweep(tx, after, before, keep_after, WINDOW))
        })
        .await?;
        let Some(Swept { last, deleted }) = swept else {
            self.swept = Uuid::nil();
            return Ok(Step::Done);
        };
        self.swept = last;
        if deleted > 0 {
            tracing::debug!(feature = F::NAME, deleted, "deleted what lay outside the weeks");
        }
        Ok(Step::More("it deletes what lies outside the weeks"))
    }
}

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
//! | file | decision |
//! | --- | --- |
//! | `feature.rs` | what is to be known of a feature |
//! | `ahead.rs` | which weeks are to be made |
//! | `span.rs` | where weeks begin, and what of one is missing |
//! | `leave.rs` | how a week whose time is over goes |
//! | `quiet.rs` | when a table may be locked |
//! | `forget.rs` | rows of other tables that are deleted by their age |
//! | `bounds.rs` | what bounds each table |

mod ahead;
pub mod bounds;
mod feature;
mod forget;
mod leave;
mod quiet;
mod span;

pub use ahead::make_ahead;
pub use feature::{Feature, Swept};
pub use forget::{Old, forget};
pub use span::week_of;

use super::store;
use crate::db;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgPool;
use std::marker::PhantomData;
use uuid::Uuid;

/// A week goes this long after its time is over. Ends that come within this time of their push are over by then, so
/// only those that come later have to be asked for: the statements that write ends mark them `late`, by this time.
const LATE: TimeDelta = TimeDelta::days(1);
/// Rows in one statement of the sweep, and how many of those are made in one round.
const WINDOW: i64 = 2000;
const WINDOWS: usize = 50;

/// The retention of one feature.
#[derive(Debug)]
pub struct Retention<F> {
    /// Up to where the default partitions were looked through: a large rest is not begun anew every time.
    swept: Uuid,
    feature: PhantomData<F>,
}

impl<F> Default for Retention<F> {
    fn default() -> Self {
        Self { swept: Uuid::nil(), feature: PhantomData }
    }
}

impl<F: Feature> Retention<F> {
    /// Lets go what ended before `keep_after`. Whatever fails is logged, and nothing else has to wait for it.
    pub async fn tidy(&mut self, pool: &PgPool, keep_after: DateTime<Utc>) {
        if let Err(error) = ahead::adopt::<F>(pool, keep_after).await {
            tracing::warn!(%error, feature = F::NAME, "cannot move rows into their weeks; trying again later");
        }
        match store::weeks_before(pool, F::NAME, keep_after - LATE).await {
            Ok(weeks) => {
                for week in weeks {
                    if let Err(error) = leave::leave::<F>(pool, &week, keep_after).await {
                        tracing::warn!(%error, feature = F::NAME, week = week.suffix, "cannot drop a week; trying again later");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, feature = F::NAME, "cannot find the weeks that are over; trying again later");
            }
        }
        if let Err(error) = self.sweep(pool, keep_after).await {
            tracing::warn!(%error, feature = F::NAME, "cannot delete what lies outside the weeks; trying again later");
        }
    }

    async fn sweep(&mut self, pool: &PgPool, keep_after: DateTime<Utc>) -> sqlx::Result<()> {
        let before = db::ids::floor(keep_after);
        let mut deleted = 0;
        for _ in 0..WINDOWS {
            let after = self.swept;
            let swept = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
                Box::pin(F::sweep(tx, after, before, keep_after, WINDOW))
            })
            .await?;
            let Some(swept) = swept else {
                self.swept = Uuid::nil();
                break;
            };
            self.swept = swept.last;
            deleted += swept.deleted;
        }
        if deleted > 0 {
            tracing::info!(feature = F::NAME, deleted, "deleted what lay outside the weeks");
        }
        Ok(())
    }
}

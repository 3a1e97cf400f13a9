//! What retention has to know of a feature.

use crate::worker::store::Week;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::future::Future;
use uuid::Uuid;

/// What of the rows outside every week was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Swept {
    /// The last id.
    pub last: Uuid,
    /// How many rows were deleted.
    pub deleted: u64,
}

/// A feature whose tables have weekly partitions.
pub trait Feature: Send + Sync + 'static {
    /// Its name in `weeks`.
    const NAME: &'static str;
    /// Its tables, in the order in which its transactions lock them, each with the column that leads its primary key
    /// before the id (or nothing).
    const TABLES: &'static [(&'static str, &'static str)];

    /// The table without a write into whose week none of its rows can come to be wanted again, when that is written
    /// to so rarely that it can be locked while they are asked for.
    const REVIVES: Option<&'static str>;

    /// The rows of a week (owner and id), at most `limit`, that must stay though its time is over: what is not
    /// finished, or has been for less than `keep_after` says.
    fn wanted(
        db: &mut PgConnection,
        week: &Week,
        keep_after: DateTime<Utc>,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Vec<(i32, Uuid)>>> + Send;

    /// Deletes of the default partitions' next `limit` rows between two ids what need not stay; `None` when there are
    /// none left to look at.
    fn sweep(
        tx: &mut PgConnection,
        after: Uuid,
        before: Uuid,
        keep_after: DateTime<Utc>,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Option<Swept>>> + Send;
}

/// The names of a feature's tables.
pub(super) fn names<F: Feature>() -> Vec<&'static str> {
    F::TABLES.iter().map(|(table, _)| *table).collect()
}

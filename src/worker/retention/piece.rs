//! How a week, or a piece of one, is made: what lies of it in the default partitions moves into it.

use super::feature::{Feature, names};
use super::quiet::{self, Quiet};
use crate::db;
use crate::worker::store;
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;
use uuid::Uuid;

/// The most rows of a table that move at once: nobody can use the tables meanwhile.
pub(super) const MOST: i64 = 10_000;

/// Makes a week, or a piece of one, and moves into it what lies in the default partitions.
pub(super) async fn make<F: Feature>(
    pool: &PgPool,
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
) -> sqlx::Result<Quiet<()>> {
    let tables = names::<F>();
    let mut locked: Vec<String> = tables.iter().map(|table| format!("{table}_default")).collect();
    locked.extend(tables.iter().map(|table| (*table).to_owned()));
    let made = quiet::run(pool, &locked, move |tx| {
        let tables = tables.clone();
        Box::pin(async move { store::make_week(tx, F::NAME, &tables, starts, ends).await })
    })
    .await?;
    match made {
        Quiet::Done(moved) => {
            if moved > 0 {
                tracing::info!(feature = F::NAME, %starts, moved, "made a week and moved its rows into it");
            }
            Ok(Quiet::Done(()))
        }
        Quiet::InUse => {
            tracing::warn!(feature = F::NAME, %starts, "cannot make a week: its tables are in use; trying again later");
            Ok(Quiet::InUse)
        }
    }
}

/// Whether more rows of this span lie in the default partitions than may move at once.
pub(super) async fn is_heavy<F: Feature>(
    pool: &PgPool,
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
) -> sqlx::Result<bool> {
    is_heavier_than::<F>(pool, starts, ends, MOST).await
}

/// Whether more than so many rows of this span lie in one of the default partitions.
pub(super) async fn is_heavier_than<F: Feature>(
    pool: &PgPool,
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
    rows: i64,
) -> sqlx::Result<bool> {
    let (from, upto): (Uuid, Uuid) = (db::ids::floor(starts), db::ids::floor(ends));
    for table in names::<F>() {
        let query = format!(
            "SELECT EXISTS (SELECT FROM {table}_default WHERE id >= $1 AND id < $2 ORDER BY id OFFSET $3)"
        );
        let heavy: bool =
            sqlx::query_scalar(AssertSqlSafe(query)).bind(from).bind(upto).bind(rows).fetch_one(pool).await?;
        if heavy {
            return Ok(true);
        }
    }
    Ok(false)
}

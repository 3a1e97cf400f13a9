//! Rows that are deleted by their age, in batches.

use crate::worker::upkeep::Step;
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

/// Rows in one statement.
const BATCH: u64 = 2000;

/// Rows of a table that become old.
#[derive(Debug, Clone, Copy)]
pub struct Old {
    /// The table.
    pub table: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The column, which has an index, that says how old a row is.
    pub by: &'static str,
    /// What else must be so, or nothing; `$1` is the moment.
    pub only_if: Option<&'static str>,
}

/// Deletes a batch of the rows from before `keep_after`, the oldest first.
///
/// # Errors
/// The database's.
pub async fn forget(pool: &PgPool, old: &Old, keep_after: DateTime<Utc>) -> sqlx::Result<Step> {
    let Old { table, key, by, .. } = old;
    let also = old.only_if.map_or_else(String::new, |so| format!("AND {so}"));
    let batch = format!(
        "DELETE FROM {table} WHERE ({key}) IN (
            SELECT {key} FROM {table} WHERE {by} < $1 {also} ORDER BY {by} LIMIT {BATCH}
        )"
    );
    let gone = sqlx::query(AssertSqlSafe(batch)).bind(keep_after).execute(pool).await?;
    Ok(if gone.rows_affected() < BATCH { Step::Done } else { Step::More("it deletes old rows") })
}

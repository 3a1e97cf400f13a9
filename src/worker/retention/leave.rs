//! How a week whose time is over goes: what must stay moves out of it, the rest is dropped.

use super::feature::{Feature, names};
use super::quiet::{self, Quiet};
use crate::worker::store::{self, Week};
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgPool};

/// The most items that move: nobody can use the tables meanwhile. A week that holds more of them that must stay is
/// full of them, and stays whole until they are fewer.
const MOST: usize = 5000;

enum Left {
    Gone { kept: i64 },
    TooMany,
}

/// Drops a week, unless too much of it must stay or somebody uses it; then its row says so.
pub(super) async fn leave<F: Feature>(
    pool: &PgPool,
    week: &Week,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<()> {
    let note = match try_to_leave::<F>(pool, week, keep_after).await {
        Ok(Quiet::Done(Left::Gone { kept })) => {
            tracing::info!(feature = F::NAME, week = week.suffix, kept, "dropped a week");
            return Ok(());
        }
        Ok(Quiet::Done(Left::TooMany)) => format!("more than {MOST} items in it are still wanted"),
        Ok(Quiet::InUse) => "its tables are in use: by a dump, say, or another old transaction".to_owned(),
        Err(error) => {
            // The files are removed after the commit, which takes its time: it may have been done all the same.
            if store::note_week(pool, F::NAME, week.starts, &error.to_string()).await? {
                return Err(error);
            }
            tracing::info!(feature = F::NAME, week = week.suffix, %error, "dropped a week; its answer was lost");
            return Ok(());
        }
    };
    tracing::info!(feature = F::NAME, week = week.suffix, note, "a week stays, though its time is over");
    store::note_week(pool, F::NAME, week.starts, &note).await?;
    Ok(())
}

async fn try_to_leave<F: Feature>(
    pool: &PgPool,
    week: &Week,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<Quiet<Left>> {
    let limit = i64::try_from(MOST).unwrap_or(i64::MAX) + 1;
    if F::wanted(&mut *pool.acquire().await?, week, keep_after, limit).await?.len() > MOST {
        return Ok(Quiet::Done(Left::TooMany));
    }
    let mut locked: Vec<String> = names::<F>().into_iter().map(str::to_owned).collect();
    for table in names::<F>() {
        locked.extend([format!("{table}_default"), format!("{table}_{}", week.suffix)]);
    }
    let week = week.clone();
    quiet::run(pool, &locked, move |tx| {
        let week = week.clone();
        Box::pin(async move { drop_week::<F>(tx, &week, keep_after, limit).await })
    })
    .await
}

/// Locks the tables for the moment that the move takes. What must stay is asked for before that, under a lock that is
/// in nobody's way, where there is such a lock: of a large backlog the question takes its time.
async fn drop_week<F: Feature>(
    tx: &mut PgConnection,
    week: &Week,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Left> {
    let mut asked = None;
    if let Some(table) = F::REVIVES {
        lock(tx, &format!("{table}_{} IN SHARE MODE", week.suffix)).await?;
        asked = Some(F::wanted(&mut *tx, week, keep_after, limit).await?);
    }
    for table in names::<F>() {
        lock(tx, &format!("ONLY {table} IN ACCESS EXCLUSIVE MODE")).await?;
    }
    let mut kept = match asked {
        Some(kept) => kept,
        None => F::wanted(&mut *tx, week, keep_after, limit).await?,
    };
    if kept.len() > MOST {
        return Ok(Left::TooMany);
    }
    kept.sort_unstable();
    kept.dedup();
    Ok(Left::Gone { kept: store::drop_week(tx, F::NAME, F::TABLES, week.starts, &kept).await? })
}

async fn lock(tx: &mut PgConnection, what: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!("LOCK TABLE {what}"))).execute(tx).await?;
    Ok(())
}

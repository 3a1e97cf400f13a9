//! Which weeks are to be made: those of the next two weeks, and those whose rows lie in a default partition.
//!
//! Rows lie there when nobody made their week in time (no server ran, and an application went on with `enqueue`), or
//! when a clock jumped. They move into their week when that is made. Where more of them lie than may move at once,
//! the week is cut into pieces.

use super::feature::{Feature, names};
use super::quiet::{self, Quiet};
use super::span::{WEEK, gaps, monday};
use crate::db;
use crate::worker::store;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

/// How far ahead.
const AHEAD: TimeDelta = TimeDelta::days(14);
/// The most rows that move at once: nobody can use the default partitions meanwhile.
const MOST: i64 = 10_000;
/// No week is cut into shorter pieces than this.
const SHORTEST: TimeDelta = TimeDelta::seconds(1);

/// Makes the weeks from now on, where they are missing. When something else has the tables (a dump, say) it gives
/// way; the next call goes on.
pub async fn make_ahead<F: Feature>(pool: &PgPool) -> sqlx::Result<()> {
    let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(pool).await?;
    make::<F>(pool, monday(now), monday(now + AHEAD) + WEEK).await
}

/// Makes the weeks that are not over, and not further ahead than others, of what lies in the default partitions.
pub(super) async fn adopt<F: Feature>(pool: &PgPool, keep_after: DateTime<Utc>) -> sqlx::Result<()> {
    let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(pool).await?;
    let (mut from, upto) = (monday(keep_after) + WEEK, monday(now + AHEAD) + WEEK);
    while let Some(first) = first_stray::<F>(pool, from, upto).await? {
        let week = monday(first);
        make::<F>(pool, week, week + WEEK).await?;
        from = week + WEEK;
    }
    Ok(())
}

/// Makes what is missing of the weeks between two Mondays.
async fn make<F: Feature>(pool: &PgPool, from: DateTime<Utc>, upto: DateTime<Utc>) -> sqlx::Result<()> {
    let there = store::weeks_after(pool, F::NAME, from).await?;
    let mut week = from;
    while week < upto {
        let mut missing = gaps(week, week + WEEK, &there);
        missing.reverse();
        while let Some((starts, ends)) = missing.pop() {
            if ends - starts > SHORTEST && is_heavy::<F>(pool, starts, ends).await? {
                let middle = starts + TimeDelta::milliseconds((ends - starts).num_milliseconds() / 2);
                missing.extend([(middle, ends), (starts, middle)]);
                continue;
            }
            make_one::<F>(pool, starts, ends).await?;
        }
        week += WEEK;
    }
    Ok(())
}

async fn make_one<F: Feature>(pool: &PgPool, starts: DateTime<Utc>, ends: DateTime<Utc>) -> sqlx::Result<()> {
    let tables = names::<F>();
    // The tables themselves are locked in a way that is in nobody's way.
    let locked: Vec<String> = tables.iter().map(|table| format!("{table}_default")).collect();
    let made = quiet::run(pool, &locked, move |tx| {
        let tables = tables.clone();
        Box::pin(async move { store::make_week(tx, F::NAME, &tables, starts, ends).await })
    })
    .await?;
    match made {
        Quiet::Done(moved) if moved > 0 => {
            tracing::info!(feature = F::NAME, %starts, moved, "made a week and moved its rows into it");
        }
        Quiet::Done(_) => {}
        Quiet::InUse => {
            tracing::warn!(feature = F::NAME, %starts, "cannot make a week: its tables are in use; trying again later");
        }
    }
    Ok(())
}

/// The time inside the first id of this span that lies in a default partition.
async fn first_stray<F: Feature>(
    pool: &PgPool,
    from: DateTime<Utc>,
    upto: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let firsts: Vec<String> = names::<F>()
        .iter()
        .map(|table| {
            format!("(SELECT id FROM {table}_default WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 1)")
        })
        .collect();
    let query =
        format!("SELECT uuid_v7_time(id) FROM ({}) AS first ORDER BY id LIMIT 1", firsts.join(" UNION ALL "));
    let row = sqlx::query(AssertSqlSafe(query))
        .bind(db::ids::floor(from))
        .bind(db::ids::floor(upto))
        .fetch_optional(pool)
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Whether more rows of this span lie in the default partitions than may move at once.
async fn is_heavy<F: Feature>(
    pool: &PgPool,
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let (from, upto): (Uuid, Uuid) = (db::ids::floor(starts), db::ids::floor(ends));
    for table in names::<F>() {
        let query = format!(
            "SELECT EXISTS (SELECT FROM {table}_default WHERE id >= $1 AND id < $2 ORDER BY id OFFSET $3)"
        );
        let heavy: bool =
            sqlx::query_scalar(AssertSqlSafe(query)).bind(from).bind(upto).bind(MOST).fetch_one(pool).await?;
        if heavy {
            return Ok(true);
        }
    }
    Ok(false)
}

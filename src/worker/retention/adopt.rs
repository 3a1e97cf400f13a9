//! How what lies outside its week comes into it: a piece of the week is made around it, the newest first, so that what
//! comes meanwhile goes into a week as soon as may be.
//!
//! Rows lie there when nobody made their week in time (no server ran, and an application went on with `enqueue`), or
//! when a clock jumped. While they move nobody can use the tables, and PostgreSQL looks through the whole of the default
//! partitions for what belongs into the new piece: so a piece is bounded, and so is the number of pieces of a week. Where more
//! lies it stays, and is deleted in batches once it is old; the week is made from behind it.

use super::feature::{Feature, names};
use super::piece::{self, MOST, is_heavier_than, is_heavy};
use super::quiet::Quiet;
use super::span::{AHEAD, WEEK, gaps, monday};
use crate::db;
use crate::worker::store;
use crate::worker::upkeep::Step;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};

/// The most rows of a table that move in all: each piece is three partitions more that every statement has to know of.
const TOO_MANY: i64 = 50 * MOST;
/// No week is cut into shorter pieces than this.
const SHORTEST: TimeDelta = TimeDelta::seconds(1);

/// What is said about it.
pub(super) const MOVES: &str = "it moves rows into their weeks";
const IN_USE: &str = "rows wait to be moved into their weeks: the tables are in use, by a dump, say, or another old transaction";
const TOO_MUCH: &str =
    "more rows than can be moved lie outside their weeks: they work, and are deleted once they are old";

/// What is to be done about the newest rows that lie outside their week.
#[derive(Debug)]
pub(super) enum Piece {
    /// The span of the piece that is made around them.
    Make(DateTime<Utc>, DateTime<Utc>),
    /// There are too many of them: they stay.
    Stays,
}

/// What is to be done next, of weeks that are not over and not further ahead than others; `None` when no row lies
/// outside.
pub(super) async fn next<F: Feature>(
    pool: &PgPool,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<Option<Piece>> {
    let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(pool).await?;
    let (from, mut upto) = (monday(keep_after) + WEEK, monday(now + AHEAD) + WEEK);
    let mut stays = None;
    while let Some(newest) = newest_stray::<F>(pool, from, upto).await? {
        let week = monday(newest);
        let there = store::weeks_after(pool, F::NAME, week).await?;
        let around = gaps(week, week + WEEK, &there)
            .into_iter()
            .find(|(starts, ends)| (*starts..*ends).contains(&newest));
        // It has a week since a moment ago: what is older is looked at.
        let Some((starts, ends)) = around else {
            upto = newest;
            continue;
        };
        if !is_heavy::<F>(pool, starts, ends).await? {
            return Ok(Some(Piece::Make(starts, ends)));
        }
        if !is_heavier_than::<F>(pool, starts, ends, TOO_MANY).await? {
            let (starts, ends) = light::<F>(pool, newest, starts, ends).await?;
            return Ok(Some(Piece::Make(starts, ends)));
        }
        let behind = newest + SHORTEST;
        if ends > now && behind < ends {
            return Ok(Some(Piece::Make(behind, ends)));
        }
        (upto, stays) = (starts, Some(Piece::Stays));
    }
    Ok(stays)
}

/// Makes a piece, and moves into it what lies in the default partitions.
pub(super) async fn make<F: Feature>(pool: &PgPool, piece: Piece) -> sqlx::Result<Step> {
    let Piece::Make(starts, ends) = piece else { return Ok(Step::Later(TOO_MUCH.to_owned())) };
    Ok(match piece::make::<F>(pool, starts, ends).await? {
        Quiet::Done(()) => Step::More(MOVES),
        Quiet::InUse => Step::Later(IN_USE.to_owned()),
    })
}

/// The piece of a gap that is made next: as long as no more than may move at once lies in it.
async fn light<F: Feature>(
    pool: &PgPool,
    newest: DateTime<Utc>,
    mut starts: DateTime<Utc>,
    ends: DateTime<Utc>,
) -> sqlx::Result<(DateTime<Utc>, DateTime<Utc>)> {
    while ends - starts > SHORTEST && is_heavy::<F>(pool, starts, ends).await? {
        starts += TimeDelta::milliseconds((ends - starts).num_milliseconds() / 2);
        if newest < starts {
            break;
        }
    }
    Ok((starts, ends))
}

/// The time inside the last id of this span that lies in a default partition.
async fn newest_stray<F: Feature>(
    pool: &PgPool,
    from: DateTime<Utc>,
    upto: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let lasts: Vec<String> = names::<F>()
        .iter()
        .map(|table| {
            format!("(SELECT id FROM {table}_default WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT 1)")
        })
        .collect();
    let query = format!(
        "SELECT uuid_v7_time(id) FROM ({}) AS last ORDER BY id DESC LIMIT 1",
        lasts.join(" UNION ALL ")
    );
    let row = sqlx::query(AssertSqlSafe(query))
        .bind(db::ids::floor(from))
        .bind(db::ids::floor(upto))
        .fetch_optional(pool)
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}

//! The SQL of what is left in lanes that are gone: nothing claims it any more.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Rows that wait for their time are only read, most of them: so many more in one step.
const READ: i64 = 5;
/// A place in the order of the claim: lane, rank and seq.
type Place = (i32, i16, i64);

/// How far the tables were looked through: what was deleted is not read again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    ready: Option<Place>,
    later: Option<(DateTime<Utc>, Uuid)>,
    ready_is_done: bool,
}

/// Looks through the next rows, `limit` of each table, and deletes those of lanes that are gone; `None` once all were
/// looked through.
///
/// What is ready is found lane by lane in the order of the claim, so that a backlog of lanes that are there is not read.
/// What waits for its time is in no such order, and is read.
pub async fn sweep(tx: &mut PgConnection, cursor: Cursor, limit: i64) -> sqlx::Result<Option<Cursor>> {
    let mut next = cursor;
    if !cursor.ready_is_done {
        next.ready = sweep_ready(&mut *tx, cursor.ready, limit).await?;
        if next.ready.is_some() {
            return Ok(Some(next));
        }
        next.ready_is_done = true;
    }
    next.later = sweep_later(&mut *tx, cursor.later, limit * READ).await?;
    if next.later.is_some() {
        return Ok(Some(next));
    }
    sqlx::query!("DELETE FROM leases WHERE lane NOT IN (SELECT id FROM lanes)").execute(tx).await?;
    Ok(None)
}

/// Deletes of the first lane at or behind a place that is gone the next `limit` rows; returns the last one's place,
/// `None` when there are none.
async fn sweep_ready(tx: &mut PgConnection, after: Option<Place>, limit: i64) -> sqlx::Result<Option<Place>> {
    let (lane, rank, seq) = after.unwrap_or((i32::MIN, i16::MIN, i64::MIN));
    let last = sqlx::query!(
        r#"
        WITH RECURSIVE lanes_with_work AS (
            (
                SELECT lane
                FROM dispatch
                WHERE (lane, rank, seq) > ($1::int, $2::smallint, $3::bigint)
                ORDER BY lane, rank, seq
                LIMIT 1
            )
            UNION ALL
            SELECT next.lane
            FROM lanes_with_work AS former
            CROSS JOIN LATERAL (
                SELECT d.lane FROM dispatch AS d WHERE d.lane > former.lane ORDER BY d.lane, d.rank, d.seq LIMIT 1
            ) AS next
        ),
        gone AS MATERIALIZED (
            SELECT w.lane
            FROM lanes_with_work AS w
            WHERE NOT EXISTS (SELECT FROM lanes AS l WHERE l.id = w.lane)
            LIMIT 1
        ),
        left_over AS MATERIALIZED (
            SELECT d.lane, d.rank, d.seq
            FROM gone
            CROSS JOIN LATERAL (
                SELECT lane, rank, seq
                FROM dispatch
                WHERE lane = gone.lane AND (lane, rank, seq) > ($1::int, $2::smallint, $3::bigint)
                ORDER BY lane, rank, seq
                LIMIT $4
            ) AS d
        ),
        deleted AS (
            DELETE FROM dispatch AS d
            USING left_over AS o
            WHERE d.lane = o.lane AND d.rank = o.rank AND d.seq = o.seq
        )
        SELECT lane, rank, seq FROM left_over ORDER BY lane DESC, rank DESC, seq DESC LIMIT 1
        "#,
        lane,
        rank,
        seq,
        limit,
    )
    .fetch_optional(tx)
    .await?;
    Ok(last.map(|row| (row.lane, row.rank, row.seq)))
}

/// Deletes of the next `limit` rows that wait for their time those of lanes that are gone; returns the last one's
/// place, `None` when there are no more.
async fn sweep_later(
    tx: &mut PgConnection,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> sqlx::Result<Option<(DateTime<Utc>, Uuid)>> {
    let (run_at, item) = after.unzip();
    let last = sqlx::query!(
        r#"
        WITH looked_at AS MATERIALIZED (
            SELECT run_at, item, lane
            FROM scheduled
            WHERE (run_at, item) > (coalesce($1::timestamptz, '-infinity'), coalesce($2::uuid, '00000000-0000-0000-0000-000000000000'))
            ORDER BY run_at, item
            LIMIT $3
        ),
        deleted AS (
            DELETE FROM scheduled AS s
            USING looked_at AS l
            WHERE s.run_at = l.run_at AND s.item = l.item
                AND NOT EXISTS (SELECT FROM lanes WHERE lanes.id = l.lane)
        )
        SELECT run_at, item FROM looked_at ORDER BY run_at, item OFFSET $3 - 1
        "#,
        run_at,
        item,
        limit,
    )
    .fetch_optional(tx)
    .await?;
    Ok(last.map(|row| (row.run_at, row.item)))
}

//! The SQL of `circuit_parts`: parts of lanes that fail, each with what is tried to see whether it is back.
//!
//! Whoever changes one has the row of its lane in `circuits` locked, and counts its `changes` up.

use crate::flow::circuit::Circuit;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// A circuit that opened, or stays open for longer.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// The lane.
    pub lane: i32,
    /// The part.
    pub part: &'a str,
    /// The circuit.
    pub circuit: Circuit,
    /// Whether it is told that the part is failing.
    pub tells: bool,
}

/// Opens circuits of parts, or keeps them open for longer; returns those of which it is to be told, for the first time
/// since they were closed. Their lanes are locked.
pub async fn open(tx: &mut PgConnection, opened: &[Opened<'_>]) -> sqlx::Result<HashSet<(i32, String)>> {
    let lanes: Vec<i32> = opened.iter().map(|opened| opened.lane).collect();
    let parts: Vec<&str> = opened.iter().map(|opened| opened.part).collect();
    let failures = opened.iter().map(|opened| i32::try_from(opened.circuit.failures).unwrap_or(i32::MAX));
    let failures: Vec<i32> = failures.collect();
    let until: Vec<Option<DateTime<Utc>>> = opened.iter().map(|opened| opened.circuit.open_until).collect();
    let tells: Vec<bool> = opened.iter().map(|opened| opened.tells).collect();
    let rows = sqlx::query!(
        r#"
        WITH former AS MATERIALIZED (
            SELECT lane, part FROM circuit_parts WHERE lane = ANY ($1) AND told
        )
        INSERT INTO circuit_parts AS c (lane, part, failures, open_until, told)
        SELECT lane, part, failures, open_until, tells
        FROM unnest($1::int[], $2::text[], $3::int[], $4::timestamptz[], $5::bool[])
            AS o (lane, part, failures, open_until, tells)
        WHERE EXISTS (SELECT FROM circuits WHERE lane = o.lane)
        ORDER BY lane, part
        ON CONFLICT ON CONSTRAINT circuit_parts_pkey DO UPDATE
        SET failures = excluded.failures, open_until = excluded.open_until, probe = NULL, probed_at = NULL,
            told = c.told OR excluded.told
        RETURNING
            c.lane, c.part,
            c.told AND (c.lane, c.part) NOT IN (SELECT lane, part FROM former) AS "news!"
        "#,
        &lanes,
        &parts as _,
        &failures,
        &until as _,
        &tells,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().filter(|row| row.news).map(|row| (row.lane, row.part)).collect())
}

/// A circuit that was closed.
#[derive(Debug)]
pub struct Closed {
    /// The lane.
    pub lane: i32,
    /// The part.
    pub part: String,
    /// Until when it was to be open.
    pub open_until: DateTime<Utc>,
    /// Whether it was told that the part is failing.
    pub told: bool,
}

/// Closes circuits of parts; returns those that had not been closed. Their lanes are locked.
pub async fn close(tx: &mut PgConnection, closed: &[(i32, &str)]) -> sqlx::Result<Vec<Closed>> {
    let (lanes, parts): (Vec<i32>, Vec<&str>) = closed.iter().copied().unzip();
    sqlx::query_as!(
        Closed,
        r#"
        DELETE FROM circuit_parts AS c
        USING unnest($1::int[], $2::text[]) AS o (lane, part)
        WHERE c.lane = o.lane AND c.part = o.part
        RETURNING c.lane, c.part, c.open_until, c.told
        "#,
        &lanes,
        &parts as _,
    )
    .fetch_all(tx)
    .await
}

/// Of these parts those whose circuits are not closed. Nobody closes one until the transaction ends.
pub async fn locked(tx: &mut PgConnection, parts: &[(i32, String)]) -> sqlx::Result<HashSet<(i32, String)>> {
    let (lanes, parts): (Vec<i32>, Vec<&str>) =
        parts.iter().map(|(lane, part)| (*lane, part.as_str())).unzip();
    let rows = sqlx::query!(
        r#"
        SELECT c.lane, c.part
        FROM circuit_parts AS c
        JOIN unnest($1::int[], $2::text[]) AS o (lane, part)
            ON c.lane = o.lane AND c.part = o.part
        ORDER BY c.lane, c.part
        FOR SHARE OF c
        "#,
        &lanes,
        &parts as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.part)).collect())
}

/// Has an item of this lease try whether a part is back, unless another does: one counts while its lease is there. Only if
/// the circuits of the lane have changed as often as the caller knows.
pub async fn reserve(
    db: impl PgExecutor<'_>,
    lane: i32,
    part: &str,
    lease: Uuid,
    known: i64,
) -> sqlx::Result<bool> {
    let reserved = sqlx::query!(
        r#"
        WITH known AS MATERIALIZED (
            SELECT lane FROM circuits WHERE lane = $1 AND changes = $4 FOR NO KEY UPDATE
        ),
        probing AS (
            UPDATE circuit_parts AS p
            SET probe = $3, probed_at = now()
            FROM known
            WHERE p.lane = known.lane AND p.part = $2
                AND (p.probe IS NULL OR NOT EXISTS (SELECT FROM leases AS l WHERE l.id = p.probe))
            RETURNING p.lane
        )
        UPDATE circuits AS c
        SET changes = c.changes + 1
        FROM probing
        WHERE c.lane = probing.lane
        "#,
        lane,
        part,
        lease,
        known,
    )
    .execute(db)
    .await?;
    Ok(reserved.rows_affected() > 0)
}

/// Forgets circuits of parts that nobody needs any more.
pub async fn forget(db: impl PgExecutor<'_>, unneeded: &[(i32, String)]) -> sqlx::Result<()> {
    let (lanes, parts): (Vec<i32>, Vec<&str>) =
        unneeded.iter().map(|(lane, part)| (*lane, part.as_str())).unzip();
    sqlx::query!(
        r#"
        WITH locked AS MATERIALIZED (
            SELECT lane FROM circuits WHERE lane = ANY ($1) ORDER BY lane FOR NO KEY UPDATE
        ),
        forgotten AS (
            DELETE FROM circuit_parts AS p
            USING unnest($1::int[], $2::text[]) AS u (lane, part), locked
            WHERE p.lane = locked.lane AND p.lane = u.lane AND p.part = u.part
            RETURNING p.lane
        )
        UPDATE circuits AS c
        SET changes = c.changes + 1
        FROM (SELECT DISTINCT lane FROM forgotten) AS f
        WHERE c.lane = f.lane
        "#,
        &lanes,
        &parts as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

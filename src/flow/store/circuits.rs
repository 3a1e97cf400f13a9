//! The SQL of `circuits`: lanes whose items are sent to a server that may fail. Who makes such a lane inserts its row.

use crate::flow::circuit::Circuit;
use crate::flow::circuits::{Part, State, Written};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// What changed in a lane or in its parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed {
    /// The lane.
    pub lane: i32,
    /// Its own circuit, when it opened or closed.
    pub circuit: Option<Circuit>,
    /// Whether its server is gone for good, when that is news.
    pub gone: Option<bool>,
    /// Whether somebody is told when it opens.
    pub tells: bool,
}

/// What became of a lane that changed.
#[derive(Debug)]
pub struct Turned {
    /// The lane.
    pub lane: i32,
    /// Whether it is to be told that it is failing, for the first time since it was not.
    pub failing: bool,
    /// Whether it is failing no longer, and it was told that it was.
    pub recovered: bool,
    /// Whether its server is gone since now.
    pub gone: bool,
}

/// Writes changes, in the order of the lanes, so that two settlements wait for each other rather than both; returns what
/// turned by that. From here on nobody else changes circuits of their parts.
pub async fn change(tx: &mut PgConnection, changes: &[Changed]) -> sqlx::Result<Vec<Turned>> {
    let lanes: Vec<i32> = changes.iter().map(|change| change.lane).collect();
    let failures: Vec<Option<i32>> = changes
        .iter()
        .map(|change| change.circuit.map(|circuit| i32::try_from(circuit.failures).unwrap_or(i32::MAX)))
        .collect();
    let open: Vec<Option<DateTime<Utc>>> =
        changes.iter().map(|change| change.circuit.and_then(|circuit| circuit.open_until)).collect();
    let gone: Vec<Option<bool>> = changes.iter().map(|change| change.gone).collect();
    let tells: Vec<bool> = changes.iter().map(|change| change.tells).collect();
    sqlx::query_as!(
        Turned,
        r#"
        WITH locked AS MATERIALIZED (
            SELECT lane, told, gone_at FROM circuits WHERE lane = ANY ($1) ORDER BY lane FOR NO KEY UPDATE
        )
        UPDATE circuits AS c
        SET failures = coalesce(n.failures, c.failures),
            open_until = CASE WHEN n.failures IS NULL THEN c.open_until ELSE n.open_until END,
            told = CASE
                WHEN n.failures IS NULL THEN c.told
                ELSE n.open_until IS NOT NULL AND (c.told OR n.tells)
            END,
            gone_at = CASE
                WHEN n.gone IS NULL THEN c.gone_at
                WHEN n.gone THEN coalesce(c.gone_at, now())
            END,
            changes = c.changes + 1
        FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::bool[], $5::bool[])
            AS n (lane, failures, open_until, gone, tells)
        JOIN locked ON locked.lane = n.lane
        WHERE c.lane = n.lane
        RETURNING
            c.lane, c.told AND NOT locked.told AS "failing!", locked.told AND NOT c.told AS "recovered!",
            c.gone_at IS NOT NULL AND locked.gone_at IS NULL AS "gone!"
        "#,
        &lanes,
        &failures as _,
        &open as _,
        &gone as _,
        &tells,
    )
    .fetch_all(tx)
    .await
}

/// Closes the circuits of a lane and of its parts: it starts afresh. Returns until when the first of its parts was to be
/// left alone, if one was.
pub async fn reset(tx: &mut PgConnection, lane: i32) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query!(
        r#"
        UPDATE circuits
        SET failures = 0, open_until = NULL, told = false, gone_at = NULL, changes = changes + 1
        WHERE lane = $1
        "#,
        lane,
    )
    .execute(&mut *tx)
    .await?;
    let closed = sqlx::query_scalar!("DELETE FROM circuit_parts WHERE lane = $1 RETURNING open_until", lane);
    Ok(closed.fetch_all(tx).await?.into_iter().min())
}

/// What is written of these lanes and of their parts.
pub async fn written(db: impl PgExecutor<'_>, lanes: &[i32]) -> sqlx::Result<Vec<(i32, Written)>> {
    let rows = sqlx::query!(
        r#"
        SELECT
            c.lane, c.failures, c.open_until, c.gone_at, c.changes,
            p.part AS "part?", p.failures AS "of_part?", p.open_until AS "part_until?", p.probed_at
        FROM circuits AS c
        LEFT JOIN circuit_parts AS p ON p.lane = c.lane
        WHERE c.lane = ANY ($1)
        ORDER BY c.lane
        "#,
        lanes
    );
    let circuit = |failures: i32, open_until| Circuit { failures: failures.unsigned_abs(), open_until };
    let mut written: Vec<(i32, Written)> = Vec::new();
    for row in rows.fetch_all(db).await? {
        if written.last().is_none_or(|(lane, _)| *lane != row.lane) {
            let (circuit, is_gone) = (circuit(row.failures, row.open_until), row.gone_at.is_some());
            let state = State { circuit, is_gone, changes: row.changes };
            written.push((row.lane, Written { state, parts: Vec::new() }));
        }
        if let (Some(part), Some(failures), Some((_, lane))) = (row.part, row.of_part, written.last_mut()) {
            let circuit = circuit(failures, row.part_until);
            lane.parts.push((part, Part { circuit, probed_at: row.probed_at }));
        }
    }
    Ok(written)
}

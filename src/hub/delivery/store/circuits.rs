//! The SQL of what attempts change in endpoints: circuits, and whether they are gone.

use crate::hub::delivery::circuit::Circuit;
use crate::hub::delivery::circuits::{Service, Written};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// What changed in an endpoint or in its services.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed {
    /// The endpoint.
    pub id: i32,
    /// Its own circuit, when it opened or closed.
    pub circuit: Option<Circuit>,
    /// Whether it is gone for good, when that is news.
    pub gone: Option<bool>,
    /// Whether it is told when it is failing.
    pub tells: bool,
}

/// What became of an endpoint that changed.
#[derive(Debug)]
pub struct Turned {
    /// The endpoint.
    pub id: i32,
    /// Its store.
    pub store_id: i32,
    /// Its name in the API.
    pub name: String,
    /// Whether it is to be told that it is failing, for the first time since it was not.
    pub failing: bool,
    /// Whether it is failing no longer, and it was told that it was.
    pub recovered: bool,
    /// Whether it is gone since now.
    pub gone: bool,
}

/// Writes changes, in the order of the endpoints, so that two settlements wait for each other rather than both; returns
/// what turned by that. From here on nobody else changes circuits of their services.
pub async fn change(tx: &mut PgConnection, changes: &[Changed]) -> sqlx::Result<Vec<Turned>> {
    let ids: Vec<i32> = changes.iter().map(|change| change.id).collect();
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
            SELECT id, told, gone_at FROM endpoints WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE endpoints AS e
        SET failures = coalesce(c.failures, e.failures),
            open_until = CASE WHEN c.failures IS NULL THEN e.open_until ELSE c.open_until END,
            told = CASE
                WHEN c.failures IS NULL THEN e.told
                ELSE c.open_until IS NOT NULL AND (e.told OR c.tells)
            END,
            gone_at = CASE
                WHEN c.gone IS NULL THEN e.gone_at
                WHEN c.gone THEN coalesce(e.gone_at, now())
            END,
            circuit = e.circuit + 1
        FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::bool[], $5::bool[])
            AS c (id, failures, open_until, gone, tells)
        JOIN locked ON locked.id = c.id
        WHERE e.id = c.id
        RETURNING
            e.id, e.store_id, e.name, e.told AND NOT locked.told AS "failing!",
            locked.told AND NOT e.told AS "recovered!",
            e.gone_at IS NOT NULL AND locked.gone_at IS NULL AS "gone!"
        "#,
        &ids,
        &failures as _,
        &open as _,
        &gone as _,
        &tells,
    )
    .fetch_all(tx)
    .await
}

/// What is written of the circuits of these endpoints and of their services.
pub async fn written(db: impl PgExecutor<'_>, ids: &[i32]) -> sqlx::Result<Vec<(i32, Written)>> {
    let rows = sqlx::query!(
        r#"
        SELECT
            e.id, e.failures, e.open_until, e.gone_at, e.circuit,
            c.service AS "service?", c.failures AS "of_service?", c.open_until AS "service_until?", c.probed_at
        FROM endpoints AS e
        LEFT JOIN service_circuits AS c ON c.endpoint_id = e.id
        WHERE e.id = ANY ($1)
        ORDER BY e.id
        "#,
        ids
    );
    let circuit = |failures: i32, open_until| Circuit { failures: failures.unsigned_abs(), open_until };
    let mut written: Vec<(i32, Written)> = Vec::new();
    for row in rows.fetch_all(db).await? {
        if written.last().is_none_or(|(id, _)| *id != row.id) {
            let (circuit, is_gone) = (circuit(row.failures, row.open_until), row.gone_at.is_some());
            written.push((row.id, Written { circuit, is_gone, changes: row.circuit, services: Vec::new() }));
        }
        if let (Some(service), Some(failures), Some((_, endpoint))) =
            (row.service, row.of_service, written.last_mut())
        {
            let circuit = circuit(failures, row.service_until);
            endpoint.services.push((service, Service { circuit, probed_at: row.probed_at }));
        }
    }
    Ok(written)
}

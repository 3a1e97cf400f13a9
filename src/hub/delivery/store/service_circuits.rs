//! The SQL of `service_circuits`: services that fail, each with what is tried to see whether it is back.
//!
//! Whoever changes one has the row of its endpoint locked, and counts its `circuit` up.

use crate::hub::delivery::circuit::Circuit;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// A circuit that opened, or stays open for longer.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    /// The endpoint.
    pub endpoint: i32,
    /// The service.
    pub service: &'a str,
    /// The circuit.
    pub circuit: Circuit,
    /// Whether it is told that the service is failing.
    pub tells: bool,
}

/// Opens circuits of services, or keeps them open for longer; returns those of which it is to be told, for the first time
/// since they were closed. Their endpoints are locked.
pub async fn open(tx: &mut PgConnection, opened: &[Opened<'_>]) -> sqlx::Result<HashSet<(i32, String)>> {
    let endpoints: Vec<i32> = opened.iter().map(|opened| opened.endpoint).collect();
    let services: Vec<&str> = opened.iter().map(|opened| opened.service).collect();
    let failures = opened.iter().map(|opened| i32::try_from(opened.circuit.failures).unwrap_or(i32::MAX));
    let failures: Vec<i32> = failures.collect();
    let until: Vec<Option<DateTime<Utc>>> = opened.iter().map(|opened| opened.circuit.open_until).collect();
    let tells: Vec<bool> = opened.iter().map(|opened| opened.tells).collect();
    let rows = sqlx::query!(
        r#"
        WITH former AS MATERIALIZED (
            SELECT endpoint_id, service FROM service_circuits WHERE endpoint_id = ANY ($1) AND told
        )
        INSERT INTO service_circuits AS c (endpoint_id, service, failures, open_until, told)
        SELECT endpoint_id, service, failures, open_until, tells
        FROM unnest($1::int[], $2::text[], $3::int[], $4::timestamptz[], $5::bool[])
            AS o (endpoint_id, service, failures, open_until, tells)
        WHERE EXISTS (SELECT FROM endpoints WHERE id = o.endpoint_id)
        ORDER BY endpoint_id, service
        ON CONFLICT ON CONSTRAINT service_circuits_pkey DO UPDATE
        SET failures = excluded.failures, open_until = excluded.open_until, probe = NULL, probed_at = NULL,
            told = c.told OR excluded.told
        RETURNING
            c.endpoint_id, c.service,
            c.told AND (c.endpoint_id, c.service) NOT IN (SELECT endpoint_id, service FROM former) AS "news!"
        "#,
        &endpoints,
        &services as _,
        &failures,
        &until as _,
        &tells,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().filter(|row| row.news).map(|row| (row.endpoint_id, row.service)).collect())
}

/// A circuit that was closed.
#[derive(Debug)]
pub struct Closed {
    /// The endpoint.
    pub endpoint_id: i32,
    /// The service.
    pub service: String,
    /// Until when it was to be open.
    pub open_until: DateTime<Utc>,
    /// Whether it was told that the service is failing.
    pub told: bool,
}

/// Closes circuits of services; returns those that had not been closed. Their endpoints are locked.
pub async fn close(tx: &mut PgConnection, closed: &[(i32, &str)]) -> sqlx::Result<Vec<Closed>> {
    let (endpoints, services): (Vec<i32>, Vec<&str>) = closed.iter().copied().unzip();
    sqlx::query_as!(
        Closed,
        r#"
        DELETE FROM service_circuits AS c
        USING unnest($1::int[], $2::text[]) AS o (endpoint_id, service)
        WHERE c.endpoint_id = o.endpoint_id AND c.service = o.service
        RETURNING c.endpoint_id, c.service, c.open_until, c.told
        "#,
        &endpoints,
        &services as _,
    )
    .fetch_all(tx)
    .await
}

/// Of these services those whose circuits are not closed. Nobody closes one until the transaction ends.
pub async fn locked(
    tx: &mut PgConnection,
    services: &[(i32, String)],
) -> sqlx::Result<HashSet<(i32, String)>> {
    let (endpoints, names): (Vec<i32>, Vec<&str>) =
        services.iter().map(|(endpoint, service)| (*endpoint, service.as_str())).unzip();
    let rows = sqlx::query!(
        r#"
        SELECT c.endpoint_id, c.service
        FROM service_circuits AS c
        JOIN unnest($1::int[], $2::text[]) AS o (endpoint_id, service)
            ON c.endpoint_id = o.endpoint_id AND c.service = o.service
        ORDER BY c.endpoint_id, c.service
        FOR SHARE OF c
        "#,
        &endpoints,
        &names as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.endpoint_id, row.service)).collect())
}

/// Has a delivery of this lease try whether a service is back, unless another does: one counts while its lease is
/// there. Only if the circuits of the endpoint have changed as often as the caller knows.
pub async fn reserve(
    db: impl PgExecutor<'_>,
    endpoint: i32,
    service: &str,
    lease: Uuid,
    known: i64,
) -> sqlx::Result<bool> {
    let reserved = sqlx::query!(
        r#"
        WITH known AS MATERIALIZED (
            SELECT id FROM endpoints WHERE id = $1 AND circuit = $4 FOR NO KEY UPDATE
        ),
        probing AS (
            UPDATE service_circuits AS c
            SET probe = $3, probed_at = now()
            FROM known
            WHERE c.endpoint_id = known.id AND c.service = $2
                AND (c.probe IS NULL OR NOT EXISTS (SELECT FROM leases AS l WHERE l.id = c.probe))
            RETURNING c.endpoint_id
        )
        UPDATE endpoints AS e
        SET circuit = e.circuit + 1
        FROM probing
        WHERE e.id = probing.endpoint_id
        "#,
        endpoint,
        service,
        lease,
        known,
    )
    .execute(db)
    .await?;
    Ok(reserved.rows_affected() > 0)
}

/// Forgets circuits of services that no mapping names any more; returns how many.
pub async fn forget_unnamed(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        r#"
        WITH unnamed AS MATERIALIZED (
            SELECT c.endpoint_id, c.service
            FROM service_circuits AS c
            WHERE NOT EXISTS (
                SELECT
                FROM mappings AS m
                WHERE m.sends_to = c.endpoint_id AND readable_json(m.definition) ->> 'service' = c.service
            )
        ),
        locked AS MATERIALIZED (
            SELECT id FROM endpoints WHERE id IN (SELECT endpoint_id FROM unnamed) ORDER BY id FOR NO KEY UPDATE
        ),
        forgotten AS (
            DELETE FROM service_circuits AS c
            USING unnamed, locked
            WHERE c.endpoint_id = locked.id AND c.endpoint_id = unnamed.endpoint_id AND c.service = unnamed.service
            RETURNING c.endpoint_id
        )
        UPDATE endpoints AS e
        SET circuit = e.circuit + 1
        FROM (SELECT DISTINCT endpoint_id FROM forgotten) AS f
        WHERE e.id = f.endpoint_id
        "#
    )
    .execute(db)
    .await?;
    Ok(forgotten.rows_affected())
}

//! The SQL of endpoints that are switched off when they fail for too long: how often in a row, since when, and then that.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::time::Duration;

/// What attempts at an endpoint came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried<'a> {
    /// The endpoint.
    pub lane: i32,
    /// The version of its definition under which they were made.
    pub version: i64,
    /// Whether one of them succeeded.
    pub succeeded: bool,
    /// How many failed since.
    pub failures: i32,
    /// Why the last of those failed.
    pub error: &'a str,
}

/// An endpoint whose last attempts failed.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The endpoint.
    pub lane: i32,
    /// How many, in a row.
    pub failures: i32,
    /// When the first of them ended.
    pub since: DateTime<Utc>,
    /// How long ago that is.
    pub lasting: Duration,
    /// Why the last of them failed.
    pub last_error: String,
}

/// Counts attempts, each endpoint once and in the order of the lanes, so that two settlements wait for each other rather
/// than both. Those that were made before the endpoint was last put, or switched off, do not count. Returns those that
/// still fail.
pub async fn count(tx: &mut PgConnection, tried: &[Tried<'_>]) -> sqlx::Result<Vec<Failing>> {
    let (well, under): (Vec<i32>, Vec<i64>) =
        tried.iter().filter(|tried| tried.succeeded).map(|tried| (tried.lane, tried.version)).unzip();
    if !well.is_empty() {
        sqlx::query!(
            r#"
            WITH locked AS MATERIALIZED (
                SELECT f.lane
                FROM unnest($1::int[], $2::bigint[]) AS t (lane, version)
                JOIN endpoints AS e ON e.id = t.lane AND e.version <= t.version
                JOIN endpoint_failures AS f ON f.lane = t.lane
                ORDER BY f.lane
                FOR UPDATE OF f
            )
            DELETE FROM endpoint_failures AS f USING locked WHERE f.lane = locked.lane
            "#,
            &well,
            &under,
        )
        .execute(&mut *tx)
        .await?;
    }
    let failed = || tried.iter().filter(|tried| tried.failures > 0);
    if failed().next().is_none() {
        return Ok(Vec::new());
    }
    let lanes: Vec<i32> = failed().map(|tried| tried.lane).collect();
    let versions: Vec<i64> = failed().map(|tried| tried.version).collect();
    let failures: Vec<i32> = failed().map(|tried| tried.failures).collect();
    let errors: Vec<&str> = failed().map(|tried| tried.error).collect();
    let rows = sqlx::query!(
        r#"
        INSERT INTO endpoint_failures AS f (lane, version, failures, last_error)
        SELECT t.lane, e.version, t.failures, t.error
        FROM unnest($1::int[], $2::bigint[], $3::int[], $4::text[]) AS t (lane, version, failures, error)
        JOIN endpoints AS e ON e.id = t.lane AND e.version <= t.version
        ORDER BY t.lane
        ON CONFLICT ON CONSTRAINT endpoint_failures_pkey DO UPDATE
        SET version = excluded.version,
            failures = CASE
                WHEN f.version = excluded.version THEN least(f.failures::bigint + excluded.failures, 2147483647)::int
                ELSE excluded.failures
            END,
            since = CASE WHEN f.version = excluded.version THEN f.since ELSE excluded.since END,
            last_error = excluded.last_error
        -- Whoever has not seen the newest definition yet counts nothing against it.
        WHERE f.version <= excluded.version
        RETURNING lane, failures, since, extract(epoch FROM now() - since)::float8 AS "lasting!", last_error
        "#,
        &lanes,
        &versions,
        &failures,
        &errors as _,
    )
    .fetch_all(tx)
    .await?;
    let failing = |lasting: f64| Duration::try_from_secs_f64(lasting).unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| Failing {
            lane: row.lane,
            failures: row.failures,
            since: row.since,
            lasting: failing(row.lasting),
            last_error: row.last_error,
        })
        .collect())
}

/// Forgets what failed at an endpoint.
pub async fn forget(tx: &mut PgConnection, lane: i32) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM endpoint_failures WHERE lane = $1", lane).execute(tx).await?;
    Ok(())
}

/// How an endpoint fails, if it does, and its definition. Both are locked: no attempt counts meanwhile.
pub async fn lock(tx: &mut PgConnection, lane: i32) -> sqlx::Result<Option<(Failing, Json<Box<RawValue>>)>> {
    let row = sqlx::query!(
        r#"
        SELECT
            f.failures, f.since, extract(epoch FROM now() - f.since)::float8 AS "lasting!", f.last_error,
            e.definition AS "definition: Json<Box<RawValue>>"
        FROM endpoints AS e
        JOIN endpoint_failures AS f ON f.lane = e.id AND f.version = e.version
        WHERE e.id = $1
        FOR NO KEY UPDATE
        "#,
        lane,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| {
        let lasting = Duration::try_from_secs_f64(row.lasting).unwrap_or_default();
        let (failures, since, last_error) = (row.failures, row.since, row.last_error);
        (Failing { lane, failures, since, lasting, last_error }, row.definition)
    }))
}

/// Switches an endpoint off, by a definition that says so.
pub async fn switch_off(
    tx: &mut PgConnection,
    lane: i32,
    definition: &RawValue,
    version: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE endpoints
        SET definition = $2::text::json, disabled_at = now(), version = $3
        WHERE id = $1
        "#,
        lane,
        definition.get(),
        version,
    )
    .execute(tx)
    .await?;
    Ok(())
}

//! The SQL of `ticks`, and of `next_tick` of mappings and pollers: what fires when. Many fire at once, as those of one
//! minute do, so each statement takes many.

use crate::hub::definitions::store::mappings;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashSet;
use uuid::Uuid;

/// In how many seconds the first schedule fires; `None` without one.
pub async fn next(db: impl PgExecutor<'_>) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar!(
        r#"
        SELECT extract(epoch FROM least(
            (SELECT min(next_tick) FROM mappings WHERE next_tick IS NOT NULL AND enabled AND deleted_at IS NULL),
            (SELECT min(next_tick) FROM pollers WHERE next_tick IS NOT NULL)
        ) - now())::float8
        "#
    )
    .fetch_one(db)
    .await
}

/// A moment that has come.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// The moment.
    pub at: DateTime<Utc>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// Locks the mappings that have been due longest, at most `limit`, leaving out what another process fires just now.
pub async fn lock_mappings(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<(mappings::Row, Due)>> {
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT id, next_tick
            FROM mappings
            WHERE next_tick <= now() AND enabled AND deleted_at IS NULL
            ORDER BY next_tick
            LIMIT $1
            FOR NO KEY UPDATE SKIP LOCKED
        )
        SELECT
            m.id, m.store_id, s.name AS store, m.name, m.endpoint_id, m.definition AS "definition: Json<Box<RawValue>>",
            m.enabled, m.version, due.next_tick AS "at!", now() AS "now!"
        FROM due
        JOIN mappings AS m ON m.id = due.id
        JOIN stores AS s ON s.id = m.store_id
        ORDER BY due.next_tick, m.id
        "#,
        limit,
    )
    .fetch_all(tx)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let mapping = mappings::Row {
            id: row.id,
            store_id: row.store_id,
            store: row.store,
            name: row.name,
            endpoint_id: row.endpoint_id,
            definition: row.definition,
            enabled: row.enabled,
            version: row.version,
        };
        (mapping, Due { at: row.at, now: row.now })
    });
    Ok(rows.collect())
}

/// Moves the schedules of mappings on.
pub async fn move_mappings(tx: &mut PgConnection, next: &[(i32, Option<DateTime<Utc>>)]) -> sqlx::Result<()> {
    let (ids, moments): (Vec<i32>, Vec<Option<DateTime<Utc>>>) = next.iter().copied().unzip();
    sqlx::query!(
        r#"
        UPDATE mappings AS m
        SET next_tick = next.at
        FROM unnest($1::int[], $2::timestamptz[]) AS next (id, at)
        WHERE m.id = next.id
        "#,
        &ids,
        &moments as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Of these mappings, each with the message key of its schedule, those to which the last message that the schedule
/// made is still on its way, if it was of this key.
pub async fn under_way(tx: &mut PgConnection, polls: &[(i32, &str)]) -> sqlx::Result<HashSet<i32>> {
    let (mappings, keys): (Vec<i32>, Vec<&str>) = polls.iter().copied().unzip();
    let found = sqlx::query_scalar!(
        r#"
        SELECT poll.mapping_id AS "mapping_id!"
        FROM unnest($1::int[], $2::text[]) AS poll (mapping_id, message)
        CROSS JOIN LATERAL (
            SELECT message_id FROM ticks
            WHERE mapping_id = poll.mapping_id AND message_id IS NOT NULL
            ORDER BY at DESC
            LIMIT 1
        ) AS last
        WHERE EXISTS (
            SELECT
            FROM deliveries AS d
            JOIN hub_messages AS m ON m.store_id = d.store_id AND m.id = d.message_id AND m.message = poll.message
            WHERE d.message_id = last.message_id AND d.mapping_id = poll.mapping_id AND d.status = 'PENDING'
        )
        "#,
        &mappings,
        &keys as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().collect())
}

/// A moment of a mapping's schedule, and the message that it makes if it makes one.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// The mapping.
    pub mapping: i32,
    /// The moment.
    pub at: DateTime<Utc>,
    /// The message.
    pub message: Option<Uuid>,
}

/// Notes that these moments fired; returns the mappings of those that had not before.
pub async fn fire(tx: &mut PgConnection, ticks: &[Tick]) -> sqlx::Result<HashSet<i32>> {
    let mappings: Vec<i32> = ticks.iter().map(|tick| tick.mapping).collect();
    let moments: Vec<DateTime<Utc>> = ticks.iter().map(|tick| tick.at).collect();
    let messages: Vec<Option<Uuid>> = ticks.iter().map(|tick| tick.message).collect();
    let fired = sqlx::query_scalar!(
        r#"
        INSERT INTO ticks (mapping_id, at, message_id)
        SELECT mapping_id, at, message_id
        FROM unnest($1::int[], $2::timestamptz[], $3::uuid[]) AS t (mapping_id, at, message_id)
        ON CONFLICT ON CONSTRAINT ticks_pkey DO NOTHING
        RETURNING mapping_id
        "#,
        &mappings,
        &moments,
        &messages as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(fired.into_iter().collect())
}

/// A poller that is to run.
#[derive(Debug)]
pub struct DuePoller {
    /// Its lane.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its definition.
    pub definition: Json<Box<RawValue>>,
    /// Whether a run waits or goes on already.
    pub queued: bool,
    /// The moment that has come.
    pub at: DateTime<Utc>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// As [`lock_mappings`], for pollers.
pub async fn lock_pollers(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DuePoller>> {
    sqlx::query_as!(
        DuePoller,
        r#"
        SELECT
            id, name, definition AS "definition: Json<Box<RawValue>>", queued, next_tick AS "at!", now() AS "now!"
        FROM pollers
        WHERE next_tick <= now()
        ORDER BY next_tick
        LIMIT $1
        FOR NO KEY UPDATE SKIP LOCKED
        "#,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// Moves the schedules of pollers on.
pub async fn move_pollers(tx: &mut PgConnection, next: &[(i32, Option<DateTime<Utc>>)]) -> sqlx::Result<()> {
    let (ids, moments): (Vec<i32>, Vec<Option<DateTime<Utc>>>) = next.iter().copied().unzip();
    sqlx::query!(
        r#"
        UPDATE pollers AS p
        SET next_tick = next.at
        FROM unnest($1::int[], $2::timestamptz[]) AS next (id, at)
        WHERE p.id = next.id
        "#,
        &ids,
        &moments as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

//! The SQL of `ticks`, and of `next_tick` of mappings and pollers: what fires when.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// In how many seconds the first schedule fires; `None` without one.
pub async fn next(db: impl PgExecutor<'_>) -> sqlx::Result<Option<f64>> {
    sqlx::query_scalar!(
        r#"
        SELECT extract(epoch FROM min(at) - now())::float8
        FROM (
            SELECT next_tick AS at FROM mappings WHERE enabled AND deleted_at IS NULL
            UNION ALL
            SELECT next_tick FROM pollers
        ) AS schedules
        "#
    )
    .fetch_one(db)
    .await
}

/// A mapping whose schedule is to fire.
#[derive(Debug)]
pub struct DueMapping {
    /// The mapping.
    pub id: i32,
    /// Its store.
    pub store_id: i32,
    /// The moment that has come.
    pub at: DateTime<Utc>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

/// Locks the mapping that has been due longest, leaving out what another process fires just now.
pub async fn lock_mapping(tx: &mut PgConnection) -> sqlx::Result<Option<DueMapping>> {
    sqlx::query_as!(
        DueMapping,
        r#"
        SELECT id, store_id, next_tick AS "at!", now() AS "now!"
        FROM mappings
        WHERE next_tick <= now() AND enabled AND deleted_at IS NULL
        ORDER BY next_tick
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
        "#
    )
    .fetch_optional(tx)
    .await
}

/// Moves a mapping's schedule on.
pub async fn move_mapping(
    tx: &mut PgConnection,
    mapping: i32,
    next: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!("UPDATE mappings SET next_tick = $2 WHERE id = $1", mapping, next).execute(tx).await?;
    Ok(())
}

/// Whether the last message that a mapping's schedule made is still on its way to it, if it was of this key.
pub async fn is_under_way(tx: &mut PgConnection, mapping: i32, key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT
            FROM (
                SELECT message_id FROM ticks
                WHERE mapping_id = $1 AND message_id IS NOT NULL
                ORDER BY at DESC
                LIMIT 1
            ) AS last
            JOIN deliveries AS d ON d.message_id = last.message_id AND d.mapping_id = $1 AND d.status = 'PENDING'
            JOIN hub_messages AS m ON m.store_id = d.store_id AND m.id = d.message_id AND m.message = $2
        ) AS "is!"
        "#,
        mapping,
        key,
    )
    .fetch_one(tx)
    .await
}

/// Notes that a moment of a mapping's schedule fired; says whether it had not before.
pub async fn fire(
    tx: &mut PgConnection,
    mapping: i32,
    at: DateTime<Utc>,
    message: Option<Uuid>,
) -> sqlx::Result<bool> {
    let fired = sqlx::query!(
        r#"
        INSERT INTO ticks (mapping_id, at, message_id) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT ticks_pkey DO NOTHING
        "#,
        mapping,
        at,
        message,
    )
    .execute(tx)
    .await?;
    Ok(fired.rows_affected() > 0)
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

/// As [`lock_mapping`], for pollers.
pub async fn lock_poller(tx: &mut PgConnection) -> sqlx::Result<Option<DuePoller>> {
    sqlx::query_as!(
        DuePoller,
        r#"
        SELECT
            id, name, definition AS "definition: Json<Box<RawValue>>", queued, next_tick AS "at!", now() AS "now!"
        FROM pollers
        WHERE next_tick <= now()
        ORDER BY next_tick
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
        "#
    )
    .fetch_optional(tx)
    .await
}

/// Moves a poller's schedule on.
pub async fn move_poller(
    tx: &mut PgConnection,
    poller: i32,
    next: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query!("UPDATE pollers SET next_tick = $2 WHERE id = $1", poller, next).execute(tx).await?;
    Ok(())
}

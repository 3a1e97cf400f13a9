//! What firing a schedule of the hub asks: mappings and pollers that are due, and polls that are under way. Many fire at
//! once, as those of one minute do, so each statement takes many.

use crate::hub::definitions::store::mappings;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashSet;
use uuid::Uuid;

/// Locks those of these mappings that nobody changes just now.
pub async fn lock_mappings(tx: &mut PgConnection, ids: &[i32]) -> sqlx::Result<Vec<mappings::Row>> {
    sqlx::query_as!(
        mappings::Row,
        r#"
        SELECT
            m.id, m.store_id, s.name AS store, m.name, m.endpoint_id, m.definition AS "definition: Json<Box<RawValue>>",
            m.enabled AND m.deleted_at IS NULL AS "enabled!", m.version
        FROM mappings AS m
        JOIN stores AS s ON s.id = m.store_id
        WHERE m.id = ANY ($1)
        FOR NO KEY UPDATE OF m SKIP LOCKED
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

/// The last message that a mapping's schedule made, which may still be on its way.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The mapping.
    pub mapping: i32,
    /// The message key of its schedule.
    pub key: &'a str,
    /// The message.
    pub last: Uuid,
}

/// Of these mappings, those to which that message is still on its way, if it was of this key.
pub async fn under_way(tx: &mut PgConnection, asked: &[Asked<'_>]) -> sqlx::Result<HashSet<i32>> {
    let mappings: Vec<i32> = asked.iter().map(|asked| asked.mapping).collect();
    let keys: Vec<&str> = asked.iter().map(|asked| asked.key).collect();
    let messages: Vec<Uuid> = asked.iter().map(|asked| asked.last).collect();
    let found = sqlx::query_scalar!(
        r#"
        SELECT poll.mapping_id AS "mapping_id!"
        FROM unnest($1::int[], $2::text[], $3::uuid[]) AS poll (mapping_id, message, id)
        WHERE EXISTS (
            SELECT
            FROM deliveries AS d
            JOIN hub_messages AS m ON m.store_id = d.store_id AND m.id = d.message_id AND m.message = poll.message
            WHERE d.message_id = poll.id AND d.mapping_id = poll.mapping_id AND d.status = 'PENDING'
        )
        "#,
        &mappings,
        &keys as _,
        &messages,
    )
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().collect())
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
}

/// As [`lock_mappings`], for pollers.
pub async fn lock_pollers(tx: &mut PgConnection, ids: &[i32]) -> sqlx::Result<Vec<DuePoller>> {
    sqlx::query_as!(
        DuePoller,
        r#"
        SELECT id, name, definition AS "definition: Json<Box<RawValue>>", queued
        FROM pollers
        WHERE id = ANY ($1)
        FOR NO KEY UPDATE SKIP LOCKED
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

//! The SQL of messages as people see them, and of their idempotency keys.

use crate::hub::routing::message::State;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;
use uuid::Uuid;

/// A message.
#[derive(Debug)]
pub struct Row {
    /// The message.
    pub id: Uuid,
    /// Its key.
    pub message: String,
    /// Where it stands.
    pub state: State,
    /// Why it is parked.
    pub reason: Option<String>,
    /// Its payload.
    pub payload: Json<Box<RawValue>>,
    /// The message whose delivery was answered with it.
    pub parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    pub hop: i16,
    /// When it came in.
    pub created_at: DateTime<Utc>,
    /// The request that it comes of.
    pub request_id: Option<String>,
    /// The trace that it is a part of, in hexadecimal digits.
    pub trace_id: Option<String>,
}

/// One message.
pub async fn get(db: impl PgExecutor<'_>, store_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            id, message, state AS "state: State", reason, payload AS "payload: Json<Box<RawValue>>", parent_id, hop,
            uuid_v7_time(id) AS "created_at!", encode(substr(trace, 1, 16), 'hex') AS trace_id,
            (
                SELECT root.request_id
                FROM hub_messages AS root
                WHERE root.store_id = $1 AND root.id = coalesce(m.root_id, m.id)
                LIMIT 1
            ) AS request_id
        FROM hub_messages AS m
        WHERE store_id = $1 AND id = $2
        "#,
        store_id,
        id,
    )
    .fetch_optional(db)
    .await
}

/// The messages with which deliveries of a message were answered, at most `limit`.
pub async fn children(
    db: impl PgExecutor<'_>,
    store_id: i32,
    id: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM hub_messages WHERE parent_id = $2 AND store_id = $1 ORDER BY id LIMIT $3",
        store_id,
        id,
        limit,
    )
    .fetch_all(db)
    .await
}

/// What an idempotency key made before.
#[derive(Debug)]
pub struct Former {
    /// The message.
    pub id: Uuid,
    /// The SHA-256 of its body.
    pub digest: Vec<u8>,
    /// Where it stands; none when it is deleted.
    pub state: Option<State>,
}

/// What an idempotency key made before in the store of this name.
pub async fn former(db: impl PgExecutor<'_>, store: &str, key: &str) -> sqlx::Result<Option<Former>> {
    sqlx::query_as!(
        Former,
        r#"
        SELECT k.message_id AS id, k.digest, m.state AS "state?: State"
        FROM stores AS s
        JOIN hub_idempotency_keys AS k ON k.store_id = s.id AND k.key = $2
        LEFT JOIN hub_messages AS m ON m.store_id = s.id AND m.id = k.message_id
        WHERE s.name = $1
        "#,
        store,
        key,
    )
    .fetch_optional(db)
    .await
}

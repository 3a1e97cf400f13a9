//! The SQL of messages as people see them, and of their idempotency keys.

use crate::hub::routing::message::State;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
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
}

/// One message.
pub async fn get(db: impl PgExecutor<'_>, store_id: i32, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT id, message, state AS "state: State", reason, payload AS "payload: Json<Box<RawValue>>", parent_id, hop
        FROM hub_messages
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

/// Takes an idempotency key for a message; says whether it was free.
pub async fn claim_key(
    tx: &mut PgConnection,
    store_id: i32,
    key: &str,
    digest: &[u8],
    message_id: Uuid,
) -> sqlx::Result<bool> {
    let taken = sqlx::query!(
        r#"
        INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT ON CONSTRAINT hub_idempotency_keys_pkey DO NOTHING
        "#,
        store_id,
        key,
        digest,
        message_id,
    )
    .execute(tx)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// The message that a key made, and the SHA-256 of its body.
pub async fn former(
    db: impl PgExecutor<'_>,
    store_id: i32,
    key: &str,
) -> sqlx::Result<Option<(Uuid, Vec<u8>)>> {
    let row = sqlx::query!(
        "SELECT message_id, digest FROM hub_idempotency_keys WHERE store_id = $1 AND key = $2",
        store_id,
        key,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.message_id, row.digest)))
}

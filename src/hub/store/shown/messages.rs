//! The SQL of messages as people see them, and of their idempotency keys.

use crate::hub::message::State;
use chrono::{DateTime, Utc};
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

/// Makes every statement of the transaction see one moment.
pub async fn one_moment(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(tx).await?;
    Ok(())
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

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// This key.
    pub key: Option<String>,
    /// Keys that begin with this.
    pub prefix: Option<String>,
    /// Messages that stand so.
    pub state: Option<State>,
    /// Stored at or after this moment.
    pub created_after: Option<DateTime<Utc>>,
    /// Stored before this moment.
    pub created_before: Option<DateTime<Utc>>,
}

/// A message in a listing.
#[derive(Debug)]
pub struct Listed {
    /// The message.
    pub id: Uuid,
    /// Its key.
    pub message: String,
    /// Where it stands.
    pub state: State,
    /// Why it is parked.
    pub reason: Option<String>,
    /// The message whose delivery was answered with it.
    pub parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    pub hop: i16,
    /// When it came in.
    pub created_at: DateTime<Utc>,
}

/// A page of messages, newest first, older than the message `before`.
pub async fn list(
    db: impl PgExecutor<'_>,
    store_id: i32,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"
        SELECT
            id, message, state AS "state: State", reason, parent_id, hop, uuid_v7_time(id) AS "created_at!"
        FROM hub_messages
        WHERE store_id = $1
            AND ($2::text IS NULL OR message = $2)
            AND ($3::text IS NULL OR starts_with(message, $3))
            AND ($4::hub_message_state IS NULL OR state = $4)
            AND id >= coalesce(uuid_v7_floor($5), '00000000-0000-0000-0000-000000000000'::uuid)
            AND id < coalesce(uuid_v7_floor($6), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            AND id < coalesce($7, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
        ORDER BY id DESC
        LIMIT $8
        "#,
        store_id,
        filter.key,
        filter.prefix,
        filter.state as _,
        filter.created_after,
        filter.created_before,
        before,
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

//! The SQL of the notifications that deliveries have brought.

use crate::hub::routing::message::Parent;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// A notification that is stored as a message.
#[derive(Debug)]
pub struct Stored {
    /// The store.
    pub store_id: i32,
    /// The delivery that brought it.
    pub delivery: Uuid,
    /// Its key.
    pub key: String,
    /// Its payload.
    pub payload: Json<Box<RawValue>>,
}

/// The notifications that deliveries of these messages have brought.
pub async fn of(tx: &mut PgConnection, parents: &[Parent]) -> sqlx::Result<Vec<Stored>> {
    let messages: Vec<Uuid> = parents.iter().map(|parent| parent.message).collect();
    let deliveries: Vec<Uuid> = parents.iter().map(|parent| parent.delivery).collect();
    sqlx::query_as!(
        Stored,
        r#"
        SELECT store_id, delivery AS "delivery!", message AS key, payload AS "payload: Json<Box<RawValue>>"
        FROM hub_messages
        WHERE parent_id = ANY ($1) AND delivery = ANY ($2) AND starts_with(message, 'notification:')
        "#,
        &messages,
        &deliveries,
    )
    .fetch_all(tx)
    .await
}

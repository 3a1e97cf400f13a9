//! The SQL of the router: its lane, and messages that cannot be routed.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// The lane of messages that are to be routed.
pub async fn lane(db: impl PgExecutor<'_>) -> sqlx::Result<i32> {
    sqlx::query_scalar!("SELECT id FROM lanes WHERE kind = 'router' ORDER BY id LIMIT 1").fetch_one(db).await
}

/// Keeps pending messages aside, for this reason; gives how many.
pub async fn park(tx: &mut PgConnection, ids: &[Uuid], reason: &str) -> sqlx::Result<u64> {
    let parked = sqlx::query!(
        "UPDATE hub_messages SET state = 'parked', reason = $2 WHERE id = ANY ($1) AND state = 'pending'",
        ids,
        reason,
    )
    .execute(tx)
    .await?;
    Ok(parked.rows_affected())
}

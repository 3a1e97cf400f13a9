//! The SQL of the router: its lane, and messages that cannot be routed.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The lane of messages that are to be routed.
pub async fn lane(db: impl PgExecutor<'_>) -> sqlx::Result<i32> {
    sqlx::query_scalar!("SELECT id FROM lanes WHERE kind = 'router' ORDER BY id LIMIT 1").fetch_one(db).await
}

/// Keeps pending messages aside, for this reason; returns how many.
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

/// The catalog's revision, and about how many bytes each of these messages is that is still to be routed.
pub async fn sizes(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<(i64, HashMap<Uuid, usize>)> {
    let rows = sqlx::query!(
        r#"
        SELECT catalog.revision, m.id AS "id?", pg_column_size(m.payload) AS size
        FROM catalog
        LEFT JOIN hub_messages AS m ON m.id = ANY ($1) AND m.state = 'pending'
        "#,
        ids,
    )
    .fetch_all(db)
    .await?;
    let revision = rows.first().map_or(0, |row| row.revision);
    let sizes = rows.into_iter().filter_map(|row| Some((row.id?, usize::try_from(row.size?).ok()?)));
    Ok((revision, sizes.collect()))
}

/// Those of these messages that are still to be routed.
pub async fn among(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let pending =
        sqlx::query_scalar!("SELECT id FROM hub_messages WHERE id = ANY ($1) AND state = 'pending'", ids);
    Ok(pending.fetch_all(tx).await?.into_iter().collect())
}

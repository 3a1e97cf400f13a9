//! The SQL of looking for a message: one index look-up a queue.

use crate::http::place::{FoundBy, PLACES};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A message that was found: its queue and its id, and by what.
pub type Found = (i32, Uuid, FoundBy);

/// The message of this id in one of these queues, and those that a lease of this id holds.
pub async fn by_id(db: impl PgExecutor<'_>, queues: &[i32], id: Uuid) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"
        (
            SELECT q.id AS "queue_id!", m.id AS "id!", false AS "is_leased!"
            FROM unnest($1::int[]) AS q (id)
            CROSS JOIN LATERAL (SELECT id FROM messages WHERE queue_id = q.id AND id = $2 LIMIT 1) AS m
            LIMIT $3
        )
        UNION ALL
        (
            SELECT l.lane, m.id, true
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            CROSS JOIN LATERAL (SELECT id FROM messages WHERE queue_id = l.lane AND id = i.item LIMIT 1) AS m
            WHERE l.id = $2 AND l.lane = ANY ($1)
            LIMIT $3
        )
        "#,
        queues,
        id,
        PLACES,
    )
    .fetch_all(db)
    .await?;
    let by = |is_leased| if is_leased { FoundBy::Lease } else { FoundBy::Id };
    Ok(rows.into_iter().map(|row| (row.queue_id, row.id, by(row.is_leased))).collect())
}

/// The messages that pushes into these queues made with this idempotency key.
pub async fn by_key(db: impl PgExecutor<'_>, queues: &[i32], key: &str) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"
        SELECT q.id AS "queue_id!", m.id AS "id!"
        FROM unnest($1::int[]) AS q (id)
        CROSS JOIN LATERAL (
            SELECT message_id FROM idempotency_keys WHERE queue_id = q.id AND key = $2 LIMIT 1
        ) AS k
        CROSS JOIN LATERAL (SELECT id FROM messages WHERE queue_id = q.id AND id = k.message_id LIMIT 1) AS m
        LIMIT $3
        "#,
        queues,
        key,
        PLACES,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.queue_id, row.id, FoundBy::IdempotencyKey)).collect())
}

//! The SQL of retention: what of a week of messages must stay, and what outside the weeks may go.

use crate::worker::retention::{Feature, Old, Swept};
use crate::worker::store::Week;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// The keys of pushes, which go with the messages.
pub const KEYS: Old =
    Old { table: "idempotency_keys", key: "queue_id, key", by: "created_at", only_if: None };

/// Messages and how they ended.
#[derive(Debug)]
pub struct Messages;

impl Feature for Messages {
    const NAME: &'static str = "queues";
    const TABLES: &'static [(&'static str, &'static str)] =
        &[("outcomes", "queue_id"), ("attempts", "queue_id"), ("messages", "queue_id")];

    // Only running one again by hand takes an end away.
    const REVIVES: Option<&'static str> = Some("outcomes");

    /// A message stays while it may still run, and for as long after its end as its queue says.
    async fn wanted(
        db: &mut PgConnection,
        week: &Week,
        keep_after: DateTime<Utc>,
        limit: i64,
    ) -> sqlx::Result<Vec<(i32, Uuid)>> {
        let rows = sqlx::query!(
            r#"
            WITH week AS (
                SELECT uuid_v7_floor($1) AS floor, uuid_v7_floor($2) AS ceiling
            )
            SELECT queue_id AS "queue_id!", id AS "id!"
            FROM (
                SELECT d.lane AS queue_id, d.item AS id FROM queues AS q JOIN dispatch AS d ON d.lane = q.id
                WHERE d.item >= (SELECT floor FROM week) AND d.item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT lane, item FROM scheduled
                WHERE item >= (SELECT floor FROM week) AND item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT l.lane, i.item FROM leases AS l CROSS JOIN LATERAL unnest(l.items) AS i (item)
                WHERE i.item >= (SELECT floor FROM week) AND i.item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT queue_id, id FROM outcomes
                WHERE late
                    AND finished_at > $3
                    AND id >= (SELECT floor FROM week) AND id < (SELECT ceiling FROM week)
            ) AS wanted
            WHERE EXISTS (SELECT FROM queues WHERE queues.id = wanted.queue_id)
            LIMIT $4
            "#,
            week.starts,
            week.ends,
            keep_after,
            limit,
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.queue_id, row.id)).collect())
    }

    /// What lies there and is older than any retention is what had to stay when its week went. It goes once its end is
    /// as old, or its queue is gone.
    async fn sweep(
        tx: &mut PgConnection,
        after: Uuid,
        before: Uuid,
        keep_after: DateTime<Utc>,
        limit: i64,
    ) -> sqlx::Result<Option<Swept>> {
        let last = sqlx::query_scalar!(
            r#"
            SELECT id AS "id!"
            FROM (
                SELECT id FROM messages_default WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3
            ) AS looked_at
            ORDER BY id DESC
            LIMIT 1
            "#,
            after,
            before,
            limit,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(last) = last else { return Ok(None) };
        let deleted = sqlx::query!(
            r#"
            WITH ended AS (
                DELETE FROM outcomes_default AS o
                WHERE o.id > $1 AND o.id <= $2
                    AND (o.finished_at <= $3 OR NOT EXISTS (SELECT FROM queues AS q WHERE q.id = o.queue_id))
                RETURNING o.queue_id, o.id
            ),
            over AS (
                SELECT queue_id, id FROM ended
                UNION
                SELECT m.queue_id, m.id
                FROM messages_default AS m
                WHERE m.id > $1 AND m.id <= $2 AND NOT EXISTS (SELECT FROM queues AS q WHERE q.id = m.queue_id)
            ),
            tried AS (
                DELETE FROM attempts_default AS a
                USING over
                WHERE a.id > $1 AND a.id <= $2 AND a.queue_id = over.queue_id AND a.id = over.id
            )
            DELETE FROM messages_default AS m
            USING over
            WHERE m.id > $1 AND m.id <= $2 AND m.queue_id = over.queue_id AND m.id = over.id
            "#,
            after,
            last,
            keep_after,
        )
        .execute(tx)
        .await?
        .rows_affected();
        Ok(Some(Swept { last, deleted }))
    }
}

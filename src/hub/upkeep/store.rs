//! The SQL of retention: what of a week of the hub must stay, what outside the weeks may go, and what else is
//! forgotten in time.

use crate::worker::retention::{Feature, Old, Swept};
use crate::worker::store::Week;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Idempotency keys.
pub const KEYS: Old =
    Old { table: "hub_idempotency_keys", key: "store_id, key", by: "created_at", only_if: None };
/// The identifiers that mappings were sent.
pub const IDENTIFIERS: Old =
    Old { table: "delivered_identifiers", key: "mapping_id, digest", by: "created_at", only_if: None };
/// How many messages have come of each from outside.
pub const DESCENDANTS: Old =
    Old { table: "hub_descendants", key: "root_id", by: "created_at", only_if: Some("last_at < $1") };
/// Log entries that were not repeated since.
pub const LOG_ENTRIES: Old =
    Old { table: "log_entries", key: "id", by: "first_seen", only_if: Some("last_seen < $1") };
/// Moments of schedules, by when somebody saw to them: what a long outage missed is told for as long as any other.
pub const TICKS: Old = Old { table: "ticks", key: "kind, owner, at", by: "fired_at", only_if: None };

/// Messages of stores, their deliveries, and the attempts of those.
#[derive(Debug)]
pub struct Hub;

impl Feature for Hub {
    const NAME: &'static str = "hub";
    const TABLES: &'static [(&'static str, &'static str)] =
        &[("delivery_attempts", ""), ("deliveries", ""), ("hub_messages", "store_id")];

    // Every end writes into a table through which one can come back.
    const REVIVES: Option<&'static str> = None;

    /// A delivery stays while it is unfinished, while it is parked and nobody has archived it, and for a while after
    /// its end. A message stays while it is to be routed, and while a delivery of it stays: one of its own week, or
    /// any of a later one.
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
            ),
            unfinished AS (
                SELECT d.item AS id FROM lanes AS l JOIN dispatch AS d ON d.lane = l.id
                WHERE l.kind = 'endpoint'
                    AND d.item >= (SELECT floor FROM week) AND d.item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT item FROM scheduled
                WHERE item >= (SELECT floor FROM week) AND item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT i.item FROM leases AS l CROSS JOIN LATERAL unnest(l.items) AS i (item)
                WHERE i.item >= (SELECT floor FROM week) AND i.item < (SELECT ceiling FROM week)
                UNION ALL
                SELECT delivery_id FROM held_deliveries
                WHERE delivery_id >= (SELECT floor FROM week) AND delivery_id < (SELECT ceiling FROM week)
                UNION ALL
                SELECT item FROM line_waits
                WHERE item >= (SELECT floor FROM week) AND item < (SELECT ceiling FROM week)
            ),
            stay AS (
                SELECT d.store_id, d.id, d.message_id
                FROM unfinished AS u
                CROSS JOIN LATERAL (
                    SELECT store_id, id, message_id FROM deliveries WHERE id = u.id LIMIT 1
                ) AS d
                UNION ALL
                SELECT d.store_id, d.id, d.message_id
                FROM mappings AS m
                CROSS JOIN LATERAL (
                    SELECT store_id, id, message_id FROM deliveries
                    WHERE mapping_id = m.id AND parked AND (archived_at IS NULL OR finished_at > $3)
                        AND id >= (SELECT floor FROM week) AND id < (SELECT ceiling FROM week)
                    LIMIT $4
                ) AS d
                UNION ALL
                SELECT store_id, id, message_id FROM deliveries
                WHERE late AND finished_at > $3
                    AND id >= (SELECT floor FROM week) AND id < (SELECT ceiling FROM week)
            ),
            bounded AS (
                SELECT store_id, id, message_id FROM stay LIMIT $4
            )
            SELECT store_id AS "store_id!", id AS "id!"
            FROM (
                SELECT store_id, id FROM bounded
                UNION ALL
                SELECT store_id, message_id FROM bounded
                WHERE message_id >= (SELECT floor FROM week) AND message_id < (SELECT ceiling FROM week)
                UNION ALL
                SELECT store_id, id FROM hub_messages
                WHERE state = 'pending'
                    AND id >= (SELECT floor FROM week) AND id < (SELECT ceiling FROM week)
                UNION ALL
                SELECT store_id, message_id FROM deliveries
                WHERE apart
                    AND message_id >= (SELECT floor FROM week) AND message_id < (SELECT ceiling FROM week)
            ) AS wanted
            LIMIT $4
            "#,
            week.starts,
            week.ends,
            keep_after,
            limit,
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.store_id, row.id)).collect())
    }

    /// What lies there and is older than all that is kept had to stay when its week went. Attempts go with their
    /// delivery, a message with the last of its deliveries.
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
                SELECT id
                FROM (
                    (SELECT id FROM deliveries_default WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3)
                    UNION ALL
                    (SELECT id FROM hub_messages_default WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3)
                ) AS lies_there
                ORDER BY id
                LIMIT $3
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
        let deliveries = sqlx::query!(
            r#"
            WITH over AS (
                DELETE FROM deliveries_default
                WHERE id > $1 AND id <= $2
                    AND status <> 'PENDING' AND finished_at <= $3
                    AND (parked IS NULL OR archived_at IS NOT NULL)
                RETURNING id
            ),
            tried AS (
                DELETE FROM delivery_attempts_default AS a USING over WHERE a.id = over.id
            )
            SELECT count(*) AS "count!" FROM over
            "#,
            after,
            last,
            keep_after,
        )
        .fetch_one(&mut *tx)
        .await?;
        let messages = sqlx::query!(
            r#"
            DELETE FROM hub_messages_default AS m
            WHERE m.id > $1 AND m.id <= $2
                AND m.state <> 'pending'
                AND NOT EXISTS (SELECT FROM deliveries AS d WHERE d.message_id = m.id)
            "#,
            after,
            last,
        )
        .execute(tx)
        .await?;
        let deleted = deliveries.count.unsigned_abs() + messages.rows_affected();
        Ok(Some(Swept { last, deleted }))
    }
}

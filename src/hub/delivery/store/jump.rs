//! The SQL of looking for something of the hub: one index look-up a store, in the first [`ASKED`] of those that may be
//! looked at.

use crate::http::place::{ASKED, FoundBy, PLACES, Place, PlaceKind};
use sqlx::PgExecutor;
use uuid::Uuid;

/// The delivery and the message of this id, and the deliveries that a lease of this id holds.
pub async fn by_id(db: impl PgExecutor<'_>, stores: Option<&[String]>, id: Uuid) -> sqlx::Result<Vec<Place>> {
    let rows = sqlx::query!(
        r#"
        (
            SELECT s.name AS "store!", d.id AS "id!", 'delivery' AS "what!"
            FROM deliveries AS d
            JOIN stores AS s ON s.id = d.store_id
            WHERE d.id = $2 AND ($1::text[] IS NULL OR s.name = ANY ($1))
        )
        UNION ALL
        (
            SELECT s.name, m.id, 'message'
            FROM (
                SELECT id, name FROM stores WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY id LIMIT $4
            ) AS s
            CROSS JOIN LATERAL (SELECT id FROM hub_messages WHERE store_id = s.id AND id = $2 LIMIT 1) AS m
            LIMIT $3
        )
        UNION ALL
        (
            SELECT s.name, d.id, 'lease'
            FROM leases AS l
            CROSS JOIN LATERAL unnest(l.items) AS i (item)
            CROSS JOIN LATERAL (SELECT id, store_id FROM deliveries WHERE id = i.item LIMIT 1) AS d
            JOIN stores AS s ON s.id = d.store_id
            WHERE l.id = $2 AND l.holder IS NULL AND ($1::text[] IS NULL OR s.name = ANY ($1))
            LIMIT $3
        )
        "#,
        stores,
        id,
        PLACES,
        ASKED,
    )
    .fetch_all(db)
    .await?;
    let place = |store: String, id: Uuid, what: &str| {
        let (kind, by) = match what {
            "message" => (PlaceKind::HubMessage, FoundBy::Id),
            "lease" => (PlaceKind::Delivery, FoundBy::Lease),
            _ => (PlaceKind::Delivery, FoundBy::Id),
        };
        of_store(kind, store, id.to_string(), by)
    };
    Ok(rows.into_iter().map(|row| place(row.store, row.id, &row.what)).collect())
}

/// The messages that pushes made with this idempotency key.
pub async fn by_key(
    db: impl PgExecutor<'_>,
    stores: Option<&[String]>,
    key: &str,
) -> sqlx::Result<Vec<Place>> {
    let rows = sqlx::query!(
        r#"
        SELECT s.name AS "store!", m.id AS "id!"
        FROM (
            SELECT id, name FROM stores WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY id LIMIT $4
        ) AS s
        CROSS JOIN LATERAL (
            SELECT message_id FROM hub_idempotency_keys WHERE store_id = s.id AND key = $2 LIMIT 1
        ) AS k
        CROSS JOIN LATERAL (SELECT id FROM hub_messages WHERE store_id = s.id AND id = k.message_id LIMIT 1) AS m
        LIMIT $3
        "#,
        stores,
        key,
        PLACES,
        ASKED,
    )
    .fetch_all(db)
    .await?;
    let place =
        |store, id: Uuid| of_store(PlaceKind::HubMessage, store, id.to_string(), FoundBy::IdempotencyKey);
    Ok(rows.into_iter().map(|row| place(row.store, row.id)).collect())
}

/// The store of this name, and the endpoints, mappings and pollers of this name, a few of each.
pub async fn by_name(
    db: impl PgExecutor<'_>,
    stores: Option<&[String]>,
    name: &str,
) -> sqlx::Result<Vec<Place>> {
    let rows = sqlx::query!(
        r#"
        WITH readable AS MATERIALIZED (
            SELECT id, name FROM stores WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY id LIMIT $4
        )
        SELECT name AS "store!", 'store' AS "what!"
        FROM stores
        WHERE name = $2 AND ($1::text[] IS NULL OR name = ANY ($1))
        UNION ALL
        (
            SELECT s.name, 'endpoint'
            FROM readable AS s
            CROSS JOIN LATERAL (SELECT FROM endpoints WHERE store_id = s.id AND name = $2 LIMIT 1) AS e
            LIMIT $3
        )
        UNION ALL
        (
            SELECT s.name, 'mapping'
            FROM readable AS s
            CROSS JOIN LATERAL (
                SELECT FROM mappings WHERE store_id = s.id AND name = $2 AND deleted_at IS NULL LIMIT 1
            ) AS m
            LIMIT $3
        )
        UNION ALL
        (
            SELECT s.name, 'poller'
            FROM readable AS s
            CROSS JOIN LATERAL (SELECT FROM pollers WHERE store_id = s.id AND name = $2 LIMIT 1) AS p
            LIMIT $3
        )
        "#,
        stores,
        name,
        PLACES,
        ASKED,
    )
    .fetch_all(db)
    .await?;
    let place = |store: String, what: &str| {
        let kind = match what {
            "endpoint" => PlaceKind::Endpoint,
            "mapping" => PlaceKind::Mapping,
            "poller" => PlaceKind::Poller,
            _ => PlaceKind::Store,
        };
        of_store(kind, store, name.to_owned(), FoundBy::Name)
    };
    Ok(rows.into_iter().map(|row| place(row.store, &row.what)).collect())
}

fn of_store(kind: PlaceKind, store: String, name: String, by: FoundBy) -> Place {
    let folder = match kind {
        PlaceKind::Delivery => "deliveries",
        PlaceKind::Endpoint => "endpoints",
        PlaceKind::Mapping => "mappings",
        PlaceKind::Poller => "pollers",
        // A store itself is what lies in it.
        PlaceKind::Store => {
            let see = format!("/stores/{store}/messages");
            return Place { kind, name, within: None, by, see };
        }
        _ => "messages",
    };
    let see = format!("/stores/{store}/{folder}/{name}");
    Place { kind, name, within: Some(store), by, see }
}

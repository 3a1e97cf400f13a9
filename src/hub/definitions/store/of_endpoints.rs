//! The SQL of the mappings of an endpoint: the one that its own definition makes, and those that name it.

use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;

/// Whose a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// That of the endpoint of its name, whose definition made it.
    Endpoint {
        /// The mapping.
        mapping: i32,
    },
    /// Nobody's: it was put.
    Nobody,
}

/// Whose the mapping of this name is, if there is one.
pub async fn owner(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<Option<Owner>> {
    let found = sqlx::query!(
        "SELECT id, of_endpoint FROM mappings WHERE store_id = $1 AND name = $2 AND deleted_at IS NULL",
        store_id,
        name,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| if row.of_endpoint { Owner::Endpoint { mapping: row.id } } else { Owner::Nobody }))
}

/// Whether deliveries of a mapping wait, wherever that is, or run.
pub async fn has_unfinished(db: impl PgExecutor<'_>, store_id: i32, mapping: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        WITH own AS MATERIALIZED (
            SELECT lane FROM delivery_lanes WHERE store_id = $1
        )
        SELECT EXISTS (
            SELECT
            FROM (
                SELECT delivery_id AS item FROM held_deliveries WHERE mapping_id = $2
                UNION ALL
                SELECT item FROM line_waits WHERE series = $2
                UNION ALL
                SELECT item FROM dispatch WHERE lane IN (SELECT lane FROM own)
                UNION ALL
                SELECT item FROM scheduled WHERE lane IN (SELECT lane FROM own)
                UNION ALL
                SELECT unnest(items) FROM leases WHERE holder IS NULL AND lane IN (SELECT lane FROM own)
            ) AS w
            JOIN deliveries AS d ON d.id = w.item
            WHERE d.mapping_id = $2 AND d.status = 'PENDING'
        ) AS "any!"
        "#,
        store_id,
        mapping,
    )
    .fetch_one(db)
    .await
}

/// The mappings that were put and send to this endpoint: their names and definitions.
pub async fn senders(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<Vec<(String, Json<Box<RawValue>>)>> {
    let rows = sqlx::query!(
        r#"
        SELECT name, definition AS "definition: Json<Box<RawValue>>"
        FROM mappings
        WHERE sends_to = $1 AND NOT of_endpoint
        ORDER BY name
        "#,
        lane,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.definition)).collect())
}

/// The endpoint of this name, with its definition.
pub async fn endpoint(
    db: impl PgExecutor<'_>,
    store_id: i32,
    name: &str,
) -> sqlx::Result<Option<(i32, Json<Box<RawValue>>)>> {
    let row = sqlx::query!(
        r#"
        SELECT id, definition AS "definition: Json<Box<RawValue>>"
        FROM endpoints
        WHERE store_id = $1 AND name = $2
        "#,
        store_id,
        name,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id, row.definition)))
}

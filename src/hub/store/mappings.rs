//! The SQL of `mappings`: their definitions.

use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;

/// A mapping that was not deleted, as the catalog reads it.
#[derive(Debug)]
pub struct Row {
    /// The mapping.
    pub id: i32,
    /// The store's id.
    pub store_id: i32,
    /// The store's name.
    pub store: String,
    /// Its name in the API.
    pub name: String,
    /// Its endpoint.
    pub endpoint_id: i32,
    /// Its definition, where it was asked for.
    pub definition: Option<Json<Box<RawValue>>>,
    /// Whether its deliveries run.
    pub enabled: bool,
    /// The catalog's revision at its last change.
    pub version: i64,
}

/// All mappings, or those of these stores; with their definitions where they changed after the revision `known`.
pub async fn live(db: impl PgExecutor<'_>, stores: Option<&[i32]>, known: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            m.id, m.store_id, s.name AS store, m.name, m.endpoint_id AS "endpoint_id!",
            CASE WHEN m.version > $2 THEN m.definition END AS "definition: Json<Box<RawValue>>",
            m.enabled, m.version
        FROM mappings AS m
        JOIN stores AS s ON s.id = m.store_id
        WHERE m.deleted_at IS NULL AND ($1::int[] IS NULL OR m.store_id = ANY ($1))
        ORDER BY m.name
        "#,
        stores,
        known,
    )
    .fetch_all(db)
    .await
}

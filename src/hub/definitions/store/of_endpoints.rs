//! The SQL of the mappings of an endpoint: the one that its own definition makes, and those that name it.

use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;

/// Whose a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// That of the endpoint of its name, whose definition made it.
    Endpoint,
    /// Nobody's: it was put.
    Nobody,
}

/// Whose the mapping of this name is, if there is one.
pub async fn owner(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<Option<Owner>> {
    let found = sqlx::query_scalar!(
        "SELECT of_endpoint FROM mappings WHERE store_id = $1 AND name = $2 AND deleted_at IS NULL",
        store_id,
        name,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|of_endpoint| if of_endpoint { Owner::Endpoint } else { Owner::Nobody }))
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

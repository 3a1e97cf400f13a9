//! The SQL of `job_types` and their lanes.

use crate::worker;
use crate::worker::store::Catalogued;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::{BTreeMap, HashMap};

/// A row of `job_types`.
#[derive(Debug)]
pub struct Row {
    /// The type's lane.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its rules.
    pub definition: Json<Box<RawValue>>,
    /// The catalog's revision at its last change.
    pub version: i64,
}

/// The types that changed after the revision `known`, those of `again`, and the catalog that they belong to.
pub async fn changed(
    db: impl PgExecutor<'_>,
    known: i64,
    again: &[i32],
) -> sqlx::Result<(Catalogued, Vec<Row>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, catalog.removed, t.id AS "id?", t.name AS "name?",
            t.definition AS "definition?: Json<Box<RawValue>>", t.version AS "version?"
        FROM catalog
        LEFT JOIN job_types AS t ON t.version > $1 OR t.id = ANY ($2)
        ORDER BY t.version
        "#,
        known,
        again,
    )
    .fetch_all(db)
    .await?;
    let catalog = rows
        .first()
        .map(|row| Catalogued { revision: row.revision, removed: row.removed })
        .unwrap_or_default();
    let types = rows.into_iter().filter_map(|row| {
        Some(Row { id: row.id?, name: row.name?, definition: row.definition?, version: row.version? })
    });
    Ok((catalog, types.collect()))
}

/// The lanes of all types.
pub async fn ids(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM job_types").fetch_all(db).await
}

/// Stores what these definitions say, by name. A type that is in none of them stays as it is, and where nothing is new
/// nothing is written.
pub async fn ensure(tx: &mut PgConnection, definitions: &BTreeMap<String, String>) -> sqlx::Result<()> {
    // Servers start together; each looks at what the one before has stored.
    worker::store::lock_revision(&mut *tx).await?;
    let stored = sqlx::query!(r#"SELECT name, definition::text AS "definition!" FROM job_types"#);
    let stored: HashMap<String, String> =
        stored.fetch_all(&mut *tx).await?.into_iter().map(|row| (row.name, row.definition)).collect();
    let new = |(name, definition): &(&String, &String)| stored.get(*name) != Some(*definition);
    let news: Vec<(&String, &String)> = definitions.iter().filter(new).collect();
    if news.is_empty() {
        return Ok(());
    }
    let version = worker::store::bump(&mut *tx).await?;
    for (name, definition) in news {
        if stored.contains_key(name) {
            sqlx::query!(
                "UPDATE job_types SET definition = $2::text::json, version = $3 WHERE name = $1",
                name,
                definition,
                version,
            )
            .execute(&mut *tx)
            .await?;
            continue;
        }
        sqlx::query!(
            r#"
            WITH lane AS (
                INSERT INTO lanes (kind) VALUES ('job') RETURNING id
            )
            INSERT INTO job_types (id, name, definition, version)
            SELECT id, $1, $2::text::json, $3 FROM lane
            "#,
            name,
            definition,
            version,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

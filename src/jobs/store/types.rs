//! The SQL of `job_types` and their lanes.

use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::BTreeMap;

/// A row of `job_types`.
#[derive(Debug)]
pub struct Row {
    /// The type's lane.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its rules.
    pub definition: Json<Box<RawValue>>,
}

/// All job types.
pub async fn all(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"SELECT id, name, definition AS "definition: Json<Box<RawValue>>" FROM job_types ORDER BY name"#
    )
    .fetch_all(db)
    .await
}

/// Stores what these definitions say, by name. A type that is in none of them stays as it is.
pub async fn ensure(tx: &mut PgConnection, definitions: &BTreeMap<String, String>) -> sqlx::Result<()> {
    // Servers start together; each looks at what the one before has stored.
    sqlx::query!("LOCK TABLE job_types IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    for (name, definition) in definitions {
        let known = sqlx::query_scalar!(
            r#"
            UPDATE job_types
            SET definition = CASE WHEN definition::text = $2 THEN definition ELSE $2::text::json END
            WHERE name = $1
            RETURNING id
            "#,
            name,
            definition,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if known.is_none() {
            sqlx::query!(
                r#"
                WITH lane AS (
                    INSERT INTO lanes (kind) VALUES ('job') RETURNING id
                )
                INSERT INTO job_types (id, name, definition)
                SELECT id, $1, $2::text::json FROM lane
                "#,
                name,
                definition,
            )
            .execute(&mut *tx)
            .await?;
        }
    }
    Ok(())
}

//! The SQL of `endpoints`: their definitions and secrets.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::types::Json;

/// An endpoint, as the catalog reads it.
#[derive(Debug)]
pub struct Row {
    /// Its lane.
    pub id: i32,
    /// The store's id.
    pub store_id: i32,
    /// The store's name.
    pub store: String,
    /// Its name in the API.
    pub name: String,
    /// Its definition, where it was asked for.
    pub definition: Option<Json<Box<RawValue>>>,
    /// Its token, sealed.
    pub token: Option<Vec<u8>>,
    /// Its signing secrets, sealed.
    pub secrets: Option<Vec<u8>>,
    /// Which key both are sealed with.
    pub key_id: Option<String>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// Failed attempts since the last that was not.
    pub failures: i32,
    /// Until when its circuit is open.
    pub open_until: Option<DateTime<Utc>>,
    /// When it first answered 410.
    pub gone_at: Option<DateTime<Utc>>,
}

/// All endpoints; with definitions and secrets where they changed after the revision `known`.
pub async fn all(db: impl PgExecutor<'_>, known: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            e.id, e.store_id, s.name AS store, e.name,
            CASE WHEN e.version > $1 THEN e.definition END AS "definition: Json<Box<RawValue>>",
            e.token, e.secrets, e.key_id, e.version, e.failures, e.open_until, e.gone_at
        FROM endpoints AS e
        JOIN stores AS s ON s.id = e.store_id
        "#,
        known,
    )
    .fetch_all(db)
    .await
}

//! The SQL of `queues` and their `lanes`: definitions.

use super::schedules;
use crate::seal::Sealed;
use crate::worker;
use crate::worker::store::Catalogued;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

/// A row of `queues`.
#[derive(Debug)]
pub struct Row {
    /// The queue's lane.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// The definition as it was put, without its handler's secret.
    pub definition: Json<Box<RawValue>>,
    /// That secret.
    pub secret: Option<Sealed>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// Who wrote it: api, file, code or example.
    pub source: String,
    /// Whether nothing is claimed from it.
    pub paused: bool,
}

/// A definition that is about to be changed.
#[derive(Debug)]
pub struct Former {
    /// The definition, without its handler's secret.
    pub definition: Box<RawValue>,
    /// That secret.
    pub secret: Option<Sealed>,
}

/// The definitions that changed after the revision `known`, those of `again`, and the catalog that they belong to.
pub async fn changed(
    db: impl PgExecutor<'_>,
    known: i64,
    again: &[i32],
) -> sqlx::Result<(Catalogued, Vec<Row>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, catalog.removed, queues.id AS "id?", queues.name AS "name?",
            queues.definition AS "definition?: Json<Box<RawValue>>", queues.version AS "version?",
            queues.secret, queues.key_id,
            queues.source AS "source?", queues.paused_at IS NOT NULL AS "paused!"
        FROM catalog
        LEFT JOIN queues ON queues.version > $1 OR queues.id = ANY ($2)
        ORDER BY queues.version
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
    let queues = rows
        .into_iter()
        .filter_map(|row| {
            Some(Row {
                id: row.id?,
                name: row.name?,
                definition: row.definition?,
                secret: sealed(row.secret, row.key_id),
                version: row.version?,
                source: row.source?,
                paused: row.paused,
            })
        })
        .collect();
    Ok((catalog, queues))
}

/// The lanes of all queues.
pub async fn ids(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM queues").fetch_all(db).await
}

fn sealed(secret: Option<Vec<u8>>, key_id: Option<String>) -> Option<Sealed> {
    Some(Sealed { key_id: key_id?, bytes: secret? })
}

/// The queue of this name.
pub async fn id(db: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!("SELECT id FROM queues WHERE name = $1", name).fetch_optional(db).await
}

/// Makes the queue or gives it a new definition, with what that says of uniqueness and its handler's secret; says whether
/// it was made.
pub async fn put(
    tx: &mut PgConnection,
    name: &str,
    definition: &RawValue,
    uniqueness: Option<&Value>,
    secret: Option<&Sealed>,
    source: &str,
) -> sqlx::Result<bool> {
    let (secret, key_id) = secret.map(|secret| (secret.bytes.as_slice(), secret.key_id.as_str())).unzip();
    let version = worker::store::bump(&mut *tx).await?;
    let changed = sqlx::query!(
        r#"
        UPDATE queues
        SET
            definition = $2::text::json, version = $3, source = $4, secret = $5, key_id = $6, uniqueness = $7,
            updated_at = now()
        WHERE name = $1
        "#,
        name,
        definition.get(),
        version,
        source,
        secret,
        key_id,
        uniqueness,
    )
    .execute(&mut *tx)
    .await?;
    if changed.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query!(
        r#"
        WITH lane AS (
            INSERT INTO lanes (kind) VALUES ('queue') RETURNING id
        )
        INSERT INTO queues (id, name, definition, version, source, secret, key_id, uniqueness)
        SELECT id, $1, $2::text::json, $3, $4, $5, $6, $7 FROM lane
        "#,
        name,
        definition.get(),
        version,
        source,
        secret,
        key_id,
        uniqueness,
    )
    .execute(tx)
    .await?;
    Ok(true)
}

/// Locks a definition to change a part of it: the revision first, as every change does, or two changes could
/// wait for each other.
pub async fn lock(tx: &mut PgConnection, name: &str) -> sqlx::Result<Option<Former>> {
    worker::store::lock_revision(&mut *tx).await?;
    let row = sqlx::query!(
        r#"
        SELECT definition AS "definition: Json<Box<RawValue>>", secret, key_id
        FROM queues
        WHERE name = $1
        FOR UPDATE
        "#,
        name
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Former { definition: row.definition.0, secret: sealed(row.secret, row.key_id) }))
}

/// Pauses or resumes, on behalf of `by`; says whether the queue is there. Who pauses one that is paused changes nothing.
pub async fn set_paused(
    tx: &mut PgConnection,
    name: &str,
    paused: bool,
    by: Option<&str>,
) -> sqlx::Result<bool> {
    let version = worker::store::bump(&mut *tx).await?;
    let done = sqlx::query!(
        r#"
        UPDATE queues
        SET paused_at = CASE WHEN $2 THEN coalesce(paused_at, now()) END,
            paused_by = CASE WHEN $2 AND paused_at IS NULL THEN $4 WHEN $2 THEN paused_by END,
            version = $3, updated_at = now()
        WHERE name = $1
        "#,
        name,
        paused,
        version,
        by,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes a queue; says whether it was there. Its lane goes too, so nothing of it is ever claimed again;
/// what lies in the engine's tables the maintenance sweeps out, its messages go with their partitions. Its schedules go
/// at once.
pub async fn delete(tx: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    worker::store::bump_removed(&mut *tx).await?;
    let Some(lane) = id(&mut *tx, name).await? else { return Ok(false) };
    schedules::delete_all(&mut *tx, lane).await?;
    sqlx::query!("DELETE FROM queues WHERE id = $1", lane).execute(&mut *tx).await?;
    worker::store::remove_lane(tx, lane).await?;
    Ok(true)
}

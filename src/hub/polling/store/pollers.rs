//! The SQL of `pollers`: definitions, and the runs they are in.

use crate::flow::store::schedules;
use crate::seal::Sealed;
use crate::worker;
use crate::worker::store::Catalogued;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// The kind of their schedules.
pub const KIND: &str = "poller";

/// A poller as it is stored.
#[derive(Debug)]
pub struct Row {
    /// Its lane.
    pub id: i32,
    /// Its store.
    pub store_id: i32,
    /// Its name in the API.
    pub name: String,
    /// The definition as it was put, with a stand-in for its token.
    pub definition: Json<Box<RawValue>>,
    /// Its token.
    pub token: Option<Sealed>,
    /// The catalog's revision at its last change.
    pub version: i64,
}

/// The pollers that changed after the revision `known`, those of `again`, and the catalog that they belong to.
pub async fn changed(
    db: impl PgExecutor<'_>,
    known: i64,
    again: &[i32],
) -> sqlx::Result<(Catalogued, Vec<Row>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, catalog.removed, p.id AS "id?", p.store_id AS "store_id?", p.name AS "name?",
            p.definition AS "definition?: Json<Box<RawValue>>", p.token, p.key_id, p.version AS "version?"
        FROM catalog
        LEFT JOIN pollers AS p ON p.version > $1 OR p.id = ANY ($2)
        ORDER BY p.version
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
    let pollers = rows
        .into_iter()
        .filter_map(|row| {
            Some(Row {
                id: row.id?,
                store_id: row.store_id?,
                name: row.name?,
                definition: row.definition?,
                token: row.key_id.zip(row.token).map(|(key_id, bytes)| Sealed { key_id, bytes }),
                version: row.version?,
            })
        })
        .collect();
    Ok((catalog, pollers))
}

/// The lanes of all pollers.
pub async fn ids(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM pollers").fetch_all(db).await
}

/// A poller as administrators see it.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The definition, with a stand-in for its token.
    pub definition: Json<Box<RawValue>>,
    /// When it runs next by itself.
    pub next_run: Option<DateTime<Utc>>,
    /// Whether a run waits or goes on.
    pub queued: bool,
    /// Runs that failed since the last that did not.
    pub failures: i32,
    /// When a run was last done.
    pub last_run: Option<DateTime<Utc>>,
    /// What there is to say of the last run.
    pub last_error: Option<String>,
}

/// The poller of this name.
pub async fn row(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<Option<Row>> {
    let row = sqlx::query!(
        r#"
        SELECT id, definition AS "definition: Json<Box<RawValue>>", token, key_id, version
        FROM pollers
        WHERE store_id = $1 AND name = $2
        "#,
        store_id,
        name,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Row {
        id: row.id,
        store_id,
        name: name.to_owned(),
        definition: row.definition,
        token: row.token.zip(row.key_id).map(|(bytes, key_id)| Sealed { key_id, bytes }),
        version: row.version,
    }))
}

/// The pollers of a store, or the one of this name, by name.
pub async fn views(db: impl PgExecutor<'_>, store_id: i32, name: Option<&str>) -> sqlx::Result<Vec<View>> {
    sqlx::query_as!(
        View,
        r#"
        SELECT
            name, definition AS "definition: Json<Box<RawValue>>", s.next_at AS "next_run?", queued, failures, last_run,
            last_error
        FROM pollers
        LEFT JOIN schedules AS s ON s.kind = 'poller' AND s.owner = pollers.id
        WHERE store_id = $1 AND ($2::text IS NULL OR name = $2)
        ORDER BY name
        "#,
        store_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// A poller that is about to be put again.
#[derive(Debug)]
pub struct Former {
    /// Its lane.
    pub id: i32,
    /// The definition that it has.
    pub definition: Json<Box<RawValue>>,
    /// Its token.
    pub token: Option<Sealed>,
}

/// Locks a poller to change it.
pub async fn lock(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<Option<Former>> {
    let row = sqlx::query!(
        r#"
        SELECT id, definition AS "definition: Json<Box<RawValue>>", token, key_id
        FROM pollers
        WHERE store_id = $1 AND name = $2
        FOR UPDATE
        "#,
        store_id,
        name,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Former {
        id: row.id,
        definition: row.definition,
        token: row.key_id.zip(row.token).map(|(key_id, bytes)| Sealed { key_id, bytes }),
    }))
}

/// What is put.
#[derive(Debug)]
pub struct Put<'a> {
    /// The definition, with a stand-in for its token.
    pub definition: &'a RawValue,
    /// Its token.
    pub token: Option<&'a Sealed>,
}

/// Makes a poller; returns its lane. The caller has counted the change, which made it this `version`.
pub async fn insert(
    tx: &mut PgConnection,
    store_id: i32,
    name: &str,
    version: i64,
    put: &Put<'_>,
) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"
        WITH lane AS (
            INSERT INTO lanes (kind) VALUES ('poller') RETURNING id
        )
        INSERT INTO pollers (id, store_id, name, version, definition, token, key_id)
        SELECT id, $1, $2, $3, $4::text::json, $5, $6 FROM lane
        RETURNING id
        "#,
        store_id,
        name,
        version,
        put.definition.get(),
        put.token.map(|sealed| &sealed.bytes[..]),
        put.token.map(|sealed| &*sealed.key_id),
    )
    .fetch_one(tx)
    .await
}

/// Gives a poller another definition.
pub async fn update(tx: &mut PgConnection, id: i32, version: i64, put: &Put<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE pollers
        SET version = $2, definition = $3::text::json, token = $4, key_id = $5, updated_at = now()
        WHERE id = $1
        "#,
        id,
        version,
        put.definition.get(),
        put.token.map(|sealed| &sealed.bytes[..]),
        put.token.map(|sealed| &*sealed.key_id),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes a poller and all it has seen; says whether it was there. A run that waits goes with its lane.
pub async fn delete(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<bool> {
    worker::store::bump_removed(&mut *tx).await?;
    let lane = sqlx::query_scalar!(
        "DELETE FROM pollers WHERE store_id = $1 AND name = $2 RETURNING id",
        store_id,
        name
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(lane) = lane else { return Ok(false) };
    schedules::remove(&mut *tx, KIND, &[lane]).await?;
    worker::store::remove_lane(tx, lane).await?;
    Ok(true)
}

/// A run of a poller that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The poller's lane.
    pub lane: i32,
    /// The run.
    pub item: Uuid,
    /// Whether it was there before.
    pub was_queued: bool,
}

/// Has a poller run as soon as it can, unless it does already; `None` if it is not there.
pub async fn queue(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<Option<Waiting>> {
    let found = sqlx::query!(
        "SELECT id, item, queued FROM pollers WHERE store_id = $1 AND name = $2 FOR UPDATE",
        store_id,
        name,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let mut item = found.item;
    if !found.queued {
        item = queue_runs(tx, &[found.id]).await?.pop().unwrap_or(item);
    }
    Ok(Some(Waiting { lane: found.id, item, was_queued: found.queued }))
}

/// Puts a run of each of these pollers, which are in none and whose rows are locked, into its lane; returns the names
/// of the runs.
pub async fn queue_runs(tx: &mut PgConnection, ids: &[i32]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        WITH named AS (
            UPDATE pollers SET item = uuid_v7(), queued = true WHERE id = ANY ($1) RETURNING id, item
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item) SELECT id, 0, item FROM named
        )
        SELECT item FROM named
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Gives the next attempt at a run a name of its own.
pub async fn rename_run(tx: &mut PgConnection, id: i32) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!("UPDATE pollers SET item = uuid_v7(), queued = true WHERE id = $1 RETURNING item", id)
        .fetch_one(tx)
        .await
}

/// A run whose end is to be written.
#[derive(Debug, Clone)]
pub struct Running {
    /// The store.
    pub store_id: i32,
    /// The poller's name in the API.
    pub name: String,
    /// The catalog's revision at the poller's last change.
    pub version: i64,
    /// Runs that failed before.
    pub failures: i32,
}

/// Locks the poller that is in this run; `None` when that has ended.
pub async fn lock_run(tx: &mut PgConnection, id: i32, item: Uuid) -> sqlx::Result<Option<Running>> {
    sqlx::query_as!(
        Running,
        "SELECT store_id, name, version, failures FROM pollers WHERE id = $1 AND item = $2 AND queued FOR UPDATE",
        id,
        item,
    )
    .fetch_optional(tx)
    .await
}

/// Those of these runs that have not ended.
pub async fn runs(tx: &mut PgConnection, items: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("SELECT item FROM pollers WHERE item = ANY ($1) AND queued", items)
        .fetch_all(tx)
        .await
}

/// Ends a run that succeeded.
pub async fn end_run(tx: &mut PgConnection, id: i32, remark: Option<&str>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE pollers
        SET queued = false, failures = 0, last_run = now(), last_error = $2
        WHERE id = $1
        "#,
        id,
        remark,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes that a run failed; it is tried again.
pub async fn fail_run(tx: &mut PgConnection, id: i32, error: Option<&str>) -> sqlx::Result<()> {
    sqlx::query!("UPDATE pollers SET failures = failures + 1, last_error = $2 WHERE id = $1", id, error)
        .execute(tx)
        .await?;
    Ok(())
}

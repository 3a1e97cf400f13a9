//! The SQL of `mappings`: their definitions.

use crate::flow::store::{lines, schedules};
use crate::worker;
use crate::worker::store::Catalogued;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// The kind of their schedules.
pub const KIND: &str = "mapping";

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
    /// Its definition.
    pub definition: Json<Box<RawValue>>,
    /// Whether its deliveries run.
    pub enabled: bool,
    /// The catalog's revision at its last change.
    pub version: i64,
}

/// The mappings that changed after the revision `known`, those of `again`, and the catalog that they belong to.
pub async fn changed(
    db: impl PgExecutor<'_>,
    known: i64,
    again: &[i32],
) -> sqlx::Result<(Catalogued, Vec<Row>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, catalog.removed, m.id AS "id?", m.store_id AS "store_id?", s.name AS "store?",
            m.name AS "name?", m.endpoint_id AS "endpoint_id?", m.definition AS "definition?: Json<Box<RawValue>>",
            m.enabled AS "enabled?", m.version AS "version?"
        FROM catalog
        LEFT JOIN mappings AS m ON (m.version > $1 OR m.id = ANY ($2)) AND m.deleted_at IS NULL
        LEFT JOIN stores AS s ON s.id = m.store_id
        ORDER BY m.version
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
    let mappings = rows.into_iter().filter_map(|row| {
        Some(Row {
            id: row.id?,
            store_id: row.store_id?,
            store: row.store?,
            name: row.name?,
            endpoint_id: row.endpoint_id?,
            definition: row.definition?,
            enabled: row.enabled?,
            version: row.version?,
        })
    });
    Ok((catalog, mappings.collect()))
}

/// All mappings that were not deleted.
pub async fn ids(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM mappings WHERE deleted_at IS NULL").fetch_all(db).await
}

/// The id of the mapping of this name.
pub async fn id(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "SELECT id FROM mappings WHERE store_id = $1 AND name = $2 AND deleted_at IS NULL",
        store_id,
        name
    )
    .fetch_optional(db)
    .await
}

/// The mappings of these stores, by name.
pub async fn of_stores(db: impl PgExecutor<'_>, stores: &[i32]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT
            m.id, m.store_id, s.name AS store, m.name, m.endpoint_id,
            m.definition AS "definition: Json<Box<RawValue>>", m.enabled, m.version
        FROM mappings AS m
        JOIN stores AS s ON s.id = m.store_id
        WHERE m.deleted_at IS NULL AND m.store_id = ANY ($1)
        ORDER BY m.name
        "#,
        stores,
    )
    .fetch_all(db)
    .await
}

/// A mapping as people see it.
#[derive(Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its definition as it was put.
    pub definition: Json<Box<RawValue>>,
    /// When its schedule fires next.
    pub next_tick: Option<DateTime<Utc>>,
    /// How many deliveries wait until it is switched on.
    pub held: i64,
    /// Whether its endpoint's definition made it.
    pub of_endpoint: bool,
    /// When it was first put.
    pub created_at: DateTime<Utc>,
    /// When it was last put.
    pub updated_at: DateTime<Utc>,
}

/// The mappings of a store by name, or the one of this name.
pub async fn describe(
    db: impl PgExecutor<'_>,
    store_id: i32,
    name: Option<&str>,
) -> sqlx::Result<Vec<Described>> {
    sqlx::query_as!(
        Described,
        r#"
        SELECT
            m.name, m.definition AS "definition: Json<Box<RawValue>>", t.next_at AS "next_tick?",
            (SELECT count(*) FROM held_deliveries AS h WHERE h.mapping_id = m.id) AS "held!",
            m.of_endpoint, m.created_at, m.updated_at
        FROM mappings AS m
        LEFT JOIN schedules AS t ON t.kind = 'mapping' AND t.owner = m.id
        WHERE m.store_id = $1 AND m.deleted_at IS NULL AND ($2::text IS NULL OR m.name = $2)
        ORDER BY m.name
        "#,
        store_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// The names that are taken in a store.
pub async fn names(db: impl PgExecutor<'_>, store_id: i32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("SELECT name FROM mappings WHERE store_id = $1 AND deleted_at IS NULL", store_id)
        .fetch_all(db)
        .await
}

/// A definition on its way in.
#[derive(Debug)]
pub struct Put<'a> {
    /// The mapping's name.
    pub name: &'a str,
    /// Its endpoint.
    pub endpoint_id: i32,
    /// The definition as it was put.
    pub definition: &'a RawValue,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Whether its endpoint's definition makes it. What did once made it for good.
    pub of_endpoint: bool,
    /// When its schedule fires first, if it has one and is switched on. A schedule that does not change goes on.
    pub first_tick: Option<DateTime<Utc>>,
    /// The new revision.
    pub version: i64,
}

/// Makes a mapping or redefines it; returns it, and says whether it was made.
pub async fn put(tx: &mut PgConnection, store_id: i32, put: &Put<'_>) -> sqlx::Result<(i32, bool)> {
    let changed = sqlx::query!(
        r#"
        WITH former AS (
            SELECT
                id,
                enabled
                    AND (readable_json(definition) -> 'schedule')::jsonb
                        = (readable_json($4::text::json) -> 'schedule')::jsonb AS goes_on
            FROM mappings
            WHERE store_id = $1 AND name = $2 AND deleted_at IS NULL
            FOR NO KEY UPDATE
        )
        UPDATE mappings AS m
        SET endpoint_id = $3, definition = $4::text::json, enabled = $5, version = $6, updated_at = now()
        FROM former
        WHERE m.id = former.id
        RETURNING m.id, coalesce(former.goes_on, false) AS "goes_on!"
        "#,
        store_id,
        put.name,
        put.endpoint_id,
        put.definition.get(),
        put.enabled,
        put.version,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let schedule = |owner, goes_on| [schedules::Put { owner, first: put.first_tick, goes_on }];
    if let Some(row) = changed {
        schedules::put(&mut *tx, KIND, &schedule(row.id, row.goes_on)).await?;
        lines::send(tx, row.id, put.endpoint_id).await?;
        return Ok((row.id, false));
    }
    let id = sqlx::query_scalar!(
        r#"
        WITH made AS (
            INSERT INTO series (lane) VALUES ($3) RETURNING id
        )
        INSERT INTO mappings (id, store_id, name, endpoint_id, definition, enabled, version, of_endpoint)
        SELECT id, $1, $2, $3, $4::text::json, $5, $6, $7 FROM made
        RETURNING id
        "#,
        store_id,
        put.name,
        put.endpoint_id,
        put.definition.get(),
        put.enabled,
        put.version,
        put.of_endpoint,
    )
    .fetch_one(&mut *tx)
    .await?;
    if put.first_tick.is_some() {
        schedules::put(tx, KIND, &schedule(id, false)).await?;
    }
    Ok((id, true))
}

/// Deletes a mapping; says whether it was there. What waits for it is parked; what runs comes to its end.
pub async fn delete(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<bool> {
    let version = worker::store::bump_removed(&mut *tx).await?;
    let id = sqlx::query_scalar!(
        r#"
        UPDATE mappings
        SET deleted_at = now(), enabled = false, version = $3
        WHERE store_id = $1 AND name = $2 AND deleted_at IS NULL
        RETURNING id
        "#,
        store_id,
        name,
        version,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = id else { return Ok(false) };
    schedules::remove(&mut *tx, KIND, &[id]).await?;
    park_waiting(&mut *tx, store_id, id).await?;
    sqlx::query!("DELETE FROM learned_parameters WHERE mapping_id = $1", id).execute(tx).await?;
    Ok(true)
}

/// Parks what waits for a mapping that was deleted.
pub async fn park_waiting(tx: &mut PgConnection, store_id: i32, id: i32) -> sqlx::Result<()> {
    // In the order of locks: who leaves a line has it, and goes for who waits there.
    lines::lock_all(&mut *tx, id).await?;
    // Taken from where it waits, so that no claim takes it at the same time. What changes its place meanwhile is
    // parked when it is claimed.
    let waiting = waiting(&mut *tx, store_id, id).await?;
    let mut waited = worker::store::withdraw(&mut *tx, &waiting).await?;
    waited.extend(lines::clear(&mut *tx, id).await?);
    sqlx::query!(
        r#"
        WITH held AS (
            DELETE FROM held_deliveries WHERE mapping_id = $1 RETURNING delivery_id
        )
        UPDATE deliveries AS d
        SET status = 'ERROR', finished_at = now(), next_attempt_at = NULL, last_error = 'the mapping was deleted',
            parked_by = 'mapping_deleted'
        FROM (
            SELECT id FROM unnest($2::uuid[]) AS w (id)
            UNION ALL
            SELECT delivery_id FROM held
        ) AS waited
        WHERE d.id = waited.id AND d.status = 'PENDING'
        "#,
        id,
        &waited,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets deleted mappings of which no delivery is left: every week from before they were deleted is gone, and what
/// had to stay of them too. A day is left for pushes that did not know yet. Returns how many.
pub async fn forget_deleted(tx: &mut PgConnection) -> sqlx::Result<usize> {
    let gone = sqlx::query_scalar!(
        r#"
        DELETE FROM mappings AS m
        WHERE m.deleted_at < now() - interval '1 day'
            AND NOT EXISTS (
                SELECT FROM weeks AS w WHERE w.feature = 'hub' AND w.starts < m.deleted_at + interval '1 day'
            )
            AND NOT EXISTS (SELECT FROM deliveries_default AS d WHERE d.mapping_id = m.id)
        RETURNING id
        "#
    )
    .fetch_all(&mut *tx)
    .await?;
    lines::forget(tx, &gone).await?;
    Ok(gone.len())
}

/// The endpoints and services whose circuits are not closed, and that no mapping names any more.
pub async fn unnamed_services(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(i32, String)>> {
    let rows = sqlx::query!(
        r#"
        SELECT p.lane, p.part
        FROM circuit_parts AS p
        WHERE NOT EXISTS (
            SELECT
            FROM mappings AS m
            WHERE m.sends_to = p.lane AND readable_json(m.definition) ->> 'service' = p.part
        )
        "#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.part)).collect())
}

/// The deliveries of a mapping that wait to be claimed, each with its lane. It may have sent to another endpoint
/// before, so any endpoint of the store may have some, and any that was deleted.
async fn waiting(tx: &mut PgConnection, store_id: i32, mapping: i32) -> sqlx::Result<Vec<(i32, Uuid)>> {
    let rows = sqlx::query!(
        r#"
        SELECT w.lane AS "lane!", w.item AS "item!"
        FROM (
            SELECT lane, item FROM dispatch
            UNION ALL
            SELECT lane, item FROM scheduled
        ) AS w
        JOIN deliveries AS d ON d.id = w.item
        WHERE d.mapping_id = $2
            AND w.lane IN (
                SELECT id FROM endpoints WHERE store_id = $1
                UNION ALL
                SELECT id FROM lanes WHERE kind = 'endpoint' AND removed_at IS NOT NULL
            )
        "#,
        store_id,
        mapping,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.lane, row.item)).collect())
}

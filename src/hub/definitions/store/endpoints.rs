//! The SQL of `endpoints`: their definitions and secrets.

use super::{astray, failures};
use crate::flow::circuit::Circuit;
use crate::flow::circuits::State;
use crate::flow::store::circuits;
use crate::worker;
use crate::worker::store::Catalogued;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
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
    /// Its definition.
    pub definition: Json<Box<RawValue>>,
    /// Its token, sealed.
    pub token: Option<Vec<u8>>,
    /// Its signing secrets, sealed.
    pub secrets: Option<Vec<u8>>,
    /// The secrets of its headers and signatures, sealed.
    pub wire_secrets: Option<Vec<u8>>,
    /// What it bore before, sealed.
    pub former: Option<Vec<u8>>,
    /// Which key all are sealed with.
    pub key_id: Option<String>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// What is written of its circuits.
    pub state: State,
}

/// The endpoints that changed after the revision `known`, those of `again`, and the catalog that they belong to.
pub async fn changed(
    db: impl PgExecutor<'_>,
    known: i64,
    again: &[i32],
) -> sqlx::Result<(Catalogued, Vec<Row>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, catalog.removed, e.id AS "id?", e.store_id AS "store_id?", s.name AS "store?",
            e.name AS "name?", e.definition AS "definition?: Json<Box<RawValue>>", e.token, e.secrets, e.wire_secrets,
            e.former, e.key_id, e.version AS "version?", c.failures AS "failures?", c.open_until, c.gone_at, c.changes AS "changes?"
        FROM catalog
        LEFT JOIN endpoints AS e ON e.version > $1 OR e.id = ANY ($2)
        LEFT JOIN stores AS s ON s.id = e.store_id
        LEFT JOIN circuits AS c ON c.lane = e.id
        ORDER BY e.version
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
    let endpoints = rows.into_iter().filter_map(|row| {
        Some(Row {
            id: row.id?,
            store_id: row.store_id?,
            store: row.store?,
            name: row.name?,
            definition: row.definition?,
            token: row.token,
            secrets: row.secrets,
            wire_secrets: row.wire_secrets,
            former: row.former,
            key_id: row.key_id,
            version: row.version?,
            state: State {
                circuit: Circuit {
                    failures: row.failures.unwrap_or_default().unsigned_abs(),
                    open_until: row.open_until,
                },
                is_gone: row.gone_at.is_some(),
                changes: row.changes.unwrap_or_default(),
            },
        })
    });
    Ok((catalog, endpoints.collect()))
}

/// The lanes of all endpoints.
pub async fn ids(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM endpoints").fetch_all(db).await
}

/// A service whose circuit is not closed.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceCircuit {
    /// The service, as mappings name it.
    #[schema(example = "drop_ship")]
    service: String,
    /// Failed attempts in a row when the circuit last opened.
    failures: i32,
    /// Until when nothing is sent to it; afterwards one delivery at a time tries whether it is back.
    open_until: DateTime<Utc>,
}

/// An endpoint as people see it.
#[derive(Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its definition, with stand-ins for its secrets.
    pub definition: Json<Box<RawValue>>,
    /// What its `endpoint.json` said when it was imported.
    pub catalogue: Option<Json<Box<RawValue>>>,
    /// Failed attempts since the last that was not.
    pub failures: i32,
    /// Until when its circuit is open.
    pub open_until: Option<DateTime<Utc>>,
    /// Those of its services whose circuits are not closed, by name.
    pub services: Json<Vec<ServiceCircuit>>,
    /// When it first answered 410.
    pub gone_at: Option<DateTime<Utc>>,
    /// When its failures switched it off.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Where its definition says when they do: since when all attempts have failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was first put.
    pub created_at: DateTime<Utc>,
    /// When it was last put.
    pub updated_at: DateTime<Utc>,
}

/// The endpoints of a store by name, or the one of this name.
pub async fn describe(
    db: impl PgExecutor<'_>,
    store_id: i32,
    name: Option<&str>,
) -> sqlx::Result<Vec<Described>> {
    sqlx::query_as!(
        Described,
        r#"
        SELECT
            e.name, e.definition AS "definition: Json<Box<RawValue>>",
            e.catalogue AS "catalogue: Json<Box<RawValue>>", coalesce(c.failures, 0) AS "failures!",
            c.open_until AS "open_until?", c.gone_at AS "gone_at?", e.disabled_at, f.since AS "failing_since?", e.created_at, e.updated_at,
            (
                SELECT coalesce(
                    json_agg(
                        json_build_object('service', p.part, 'failures', p.failures, 'open_until', p.open_until)
                        ORDER BY p.part
                    ),
                    '[]'
                )
                FROM circuit_parts AS p
                WHERE p.lane = e.id
            ) AS "services!: Json<Vec<ServiceCircuit>>"
        FROM endpoints AS e
        LEFT JOIN circuits AS c ON c.lane = e.id
        LEFT JOIN endpoint_failures AS f ON f.lane = e.id AND (f.version = e.version OR e.disabled_at IS NOT NULL)
        WHERE e.store_id = $1 AND ($2::text IS NULL OR e.name = $2)
        ORDER BY e.name
        "#,
        store_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// The endpoint of this name.
pub async fn id(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!("SELECT id FROM endpoints WHERE store_id = $1 AND name = $2", store_id, name)
        .fetch_optional(db)
        .await
}

/// The secrets of an endpoint, sealed.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Its token.
    pub token: Option<Vec<u8>>,
    /// Its signing secrets, a JSON array of strings.
    pub secrets: Option<Vec<u8>>,
    /// Those of its headers and signatures, a JSON object.
    pub wire: Option<Vec<u8>>,
    /// What they replaced, a JSON array of strings.
    pub former: Option<Vec<u8>>,
    /// Which key all are sealed with.
    pub key_id: Option<String>,
}

/// The secrets that are stored of an endpoint; locks it.
pub async fn secrets(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<Option<Secrets>> {
    sqlx::query_as!(
        Secrets,
        r#"
        SELECT token, secrets, wire_secrets AS wire, former, key_id
        FROM endpoints
        WHERE store_id = $1 AND name = $2
        FOR UPDATE
        "#,
        store_id,
        name,
    )
    .fetch_optional(tx)
    .await
}

/// A definition on its way in.
#[derive(Debug)]
pub struct Put<'a> {
    /// The endpoint's name.
    pub name: &'a str,
    /// The definition, with stand-ins for secrets.
    pub definition: &'a RawValue,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Its secrets.
    pub secrets: &'a Secrets,
    /// The new revision.
    pub version: i64,
}

/// What became of an endpoint that was put.
#[derive(Debug)]
pub struct Stored {
    /// Its lane.
    pub id: i32,
    /// Whether it was made.
    pub made: bool,
    /// From this moment on deliveries wait in its lane that are to go at once, if there are any: those to services that
    /// failed, and all where its failures had switched it off.
    pub waiting: Option<DateTime<Utc>>,
}

/// Makes an endpoint or redefines it. One that is redefined starts afresh: its circuit and those of its services are
/// closed, it is not gone, and no attempt has failed yet.
pub async fn put(tx: &mut PgConnection, store_id: i32, put: &Put<'_>) -> sqlx::Result<Stored> {
    let Put { name, definition, enabled, secrets, version } = put;
    let changed = sqlx::query!(
        r#"
        WITH former AS (
            SELECT id, disabled_at FROM endpoints WHERE store_id = $1 AND name = $2 FOR NO KEY UPDATE
        )
        UPDATE endpoints AS e
        SET definition = $3::text::json, token = $4, secrets = $5, wire_secrets = $6, former = $7, key_id = $8,
            version = $9, disabled_at = CASE WHEN $10 THEN NULL ELSE e.disabled_at END, updated_at = now()
        FROM former
        WHERE e.id = former.id
        RETURNING e.id, CASE WHEN $10 AND former.disabled_at IS NOT NULL THEN now() END AS "revived?"
        "#,
        store_id,
        name,
        definition.get(),
        secrets.token.as_deref(),
        secrets.secrets.as_deref(),
        secrets.wire.as_deref(),
        secrets.former.as_deref(),
        secrets.key_id,
        version,
        enabled,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(row) = changed {
        failures::forget(&mut *tx, row.id).await?;
        let soonest = circuits::reset(tx, row.id).await?;
        return Ok(Stored { id: row.id, made: false, waiting: row.revived.or(soonest) });
    }
    let id = sqlx::query_scalar!(
        r#"
        WITH lane AS (
            INSERT INTO lanes (kind) VALUES ('endpoint') RETURNING id
        ),
        circuit AS (
            INSERT INTO circuits (lane) SELECT id FROM lane
        )
        INSERT INTO endpoints (id, store_id, name, definition, token, secrets, wire_secrets, former, key_id, version)
        SELECT id, $1, $2, $3::text::json, $4, $5, $6, $7, $8, $9 FROM lane
        RETURNING id
        "#,
        store_id,
        name,
        definition.get(),
        secrets.token.as_deref(),
        secrets.secrets.as_deref(),
        secrets.wire.as_deref(),
        secrets.former.as_deref(),
        secrets.key_id,
        version,
    )
    .fetch_one(tx)
    .await?;
    Ok(Stored { id, made: true, waiting: None })
}

/// Keeps what an endpoint said of its services.
pub async fn set_catalogue(tx: &mut PgConnection, id: i32, catalogue: &RawValue) -> sqlx::Result<()> {
    sqlx::query!("UPDATE endpoints SET catalogue = $2::text::json WHERE id = $1", id, catalogue.get())
        .execute(tx)
        .await?;
    Ok(())
}

/// What became of an endpoint that was to be deleted.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; what waited for mappings that have moved on is ready in these lanes.
    Gone(Vec<i32>),
    /// There was none.
    Absent,
    /// Deliveries to it are under way: nothing that counts was done, and the transaction must be given up.
    Busy,
}

/// Deletes an endpoint and retires its lane. Refused by `mappings_endpoint_fkey` while a mapping sends to it.
pub async fn delete(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<Deleted> {
    worker::store::bump_removed(&mut *tx).await?;
    let lane = sqlx::query_scalar!(
        "DELETE FROM endpoints WHERE store_id = $1 AND name = $2 RETURNING id",
        store_id,
        name
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(lane) = lane else { return Ok(Deleted::Absent) };
    let ready = astray::redirect(&mut *tx, lane).await?;
    // What was claimed before it could be moved has its lease by now, and comes back into this lane.
    if worker::store::is_leased(&mut *tx, lane).await? {
        return Ok(Deleted::Busy);
    }
    // What an answer or a schedule brings may still be on its way into it, decided before the mappings moved.
    worker::store::retire_lane(&mut *tx, lane).await?;
    astray::park(tx, lane).await?;
    Ok(Deleted::Gone(ready))
}

//! The SQL of claimed deliveries: what they need to run, and which of them have not ended.
//!
//! As for messages of queues, each row is looked up by a `LATERAL … LIMIT 1`: one index lookup, whatever the planner
//! thinks of the tables.

use crate::hub::routing::lineage::{Lineage, Visit};
use crate::traces::Context;
use crate::worker::Claim;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashMap;
use uuid::Uuid;

/// What of a delivery nothing but the end of its attempt changes while that runs.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The delivery.
    pub id: Uuid,
    /// The store's id.
    pub store_id: i32,
    /// The mapping's id.
    pub mapping_id: i32,
    /// The message's id.
    pub message_id: Uuid,
    /// How many attempts have ended before.
    pub attempts: i32,
    /// The line it stands in.
    pub line: Option<Vec<u8>>,
}

/// What a claimed delivery needs to run.
#[derive(Debug)]
pub struct Loaded {
    /// The delivery.
    pub delivery: Delivery,
    /// Where to ask on, after an asynchronous answer.
    pub continue_url: Option<String>,
    /// The message, unless it is gone.
    pub message: Option<Message>,
    /// Whether answers have set parameters that the mapping's definition does not name.
    pub learns: bool,
}

/// The message of a delivery.
#[derive(Debug)]
pub struct Message {
    /// Its key.
    pub key: String,
    /// Its payload, as it was sent.
    pub payload: Box<RawValue>,
    /// What it comes of.
    pub lineage: Lineage,
    /// The span that brought it.
    pub trace: Option<Context>,
}

/// What is newer than a process may know when it loads deliveries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Newest {
    /// The catalog's revision.
    pub revision: i64,
    /// How often the circuits of the endpoints have changed, in all.
    pub circuits: i64,
}

/// The deliveries of these claims, in these lanes, that have not ended.
pub async fn load(
    db: impl PgExecutor<'_>,
    claims: &[Claim],
    lanes: &[i32],
) -> sqlx::Result<(Newest, Vec<Loaded>)> {
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let rows = sqlx::query!(
        r#"
        SELECT
            d.id AS "id!", d.store_id AS "store_id!", d.mapping_id AS "mapping_id!", d.message_id AS "message_id!",
            d.attempts AS "attempts!", d.line, d.continue_url,
            m.message AS "message?", m.payload AS "payload?: Json<Box<RawValue>>", m.hop AS "hop?",
            m.root_id AS "root_id?", m.lineage AS "lineage?: Json<Vec<Visit>>", m.trace AS "trace?",
            -- Asked once whether there are any: mostly there are none.
            (SELECT EXISTS (SELECT FROM learned_parameters))
                AND EXISTS (SELECT FROM learned_parameters AS l WHERE l.mapping_id = d.mapping_id) AS "learns!",
            (SELECT revision FROM catalog) AS "revision!",
            (SELECT coalesce(sum(changes), 0)::bigint FROM circuits WHERE lane = ANY ($2)) AS "circuits!"
        FROM unnest($1::uuid[]) AS c (item)
        CROSS JOIN LATERAL (
            SELECT id, store_id, mapping_id, message_id, attempts, line, continue_url
            FROM deliveries
            WHERE id = c.item AND status = 'PENDING'
            LIMIT 1
        ) AS d
        LEFT JOIN LATERAL (
            SELECT message, payload, hop, root_id, lineage, trace
            FROM hub_messages
            WHERE store_id = d.store_id AND id = d.message_id
            LIMIT 1
        ) AS m ON true
        "#,
        &ids,
        lanes,
    )
    .fetch_all(db)
    .await?;
    let newest =
        rows.first().map(|row| Newest { revision: row.revision, circuits: row.circuits }).unwrap_or_default();
    let loaded = rows.into_iter().map(|row| Loaded {
        delivery: Delivery {
            id: row.id,
            store_id: row.store_id,
            mapping_id: row.mapping_id,
            message_id: row.message_id,
            attempts: row.attempts,
            line: row.line,
        },
        continue_url: row.continue_url,
        message: match (row.message, row.payload, row.hop) {
            (Some(key), Some(Json(payload)), Some(hop)) => {
                let root = row.root_id.unwrap_or(row.message_id);
                let visits = row.lineage.map(|lineage| lineage.0).unwrap_or_default();
                let trace = row.trace.as_deref().and_then(Context::of_stored);
                Some(Message { key, payload, lineage: Lineage { root, hop, visits }, trace })
            }
            _ => None,
        },
        learns: row.learns,
    });
    Ok((newest, loaded.collect()))
}

/// Where a message comes from.
#[derive(Debug)]
pub struct Origin {
    /// Its key.
    pub key: String,
    /// What it comes of.
    pub lineage: Lineage,
    /// The request that pushed the message from outside that it comes of.
    pub request_id: Option<String>,
    /// The span that brought it.
    pub trace: Option<Context>,
}

struct Row {
    id: Uuid,
    message: String,
    hop: i16,
    root_id: Option<Uuid>,
    lineage: Option<Json<Vec<Visit>>>,
    request_id: Option<String>,
    trace: Option<Vec<u8>>,
}

/// Where messages come from, each asked for with its store.
pub async fn origins(
    db: impl PgExecutor<'_>,
    messages: &[(i32, Uuid)],
) -> sqlx::Result<HashMap<Uuid, Origin>> {
    let (stores, ids): (Vec<i32>, Vec<Uuid>) = messages.iter().copied().unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT
            m.id AS "id!", m.message AS "message!", m.hop AS "hop!", m.root_id AS "root_id?",
            m.lineage AS "lineage?: Json<Vec<Visit>>", root.request_id AS "request_id?", m.trace
        FROM unnest($1::int[], $2::uuid[]) AS asked (store_id, id)
        CROSS JOIN LATERAL (
            SELECT id, message, hop, root_id, lineage, trace
            FROM hub_messages
            WHERE store_id = asked.store_id AND id = asked.id
            LIMIT 1
        ) AS m
        LEFT JOIN LATERAL (
            SELECT request_id
            FROM hub_messages
            WHERE store_id = asked.store_id AND id = coalesce(m.root_id, m.id)
            LIMIT 1
        ) AS root ON true
        "#,
        &stores,
        &ids,
    )
    .fetch_all(db)
    .await?;
    let origin = |row: Row| {
        let visits = row.lineage.map(|lineage| lineage.0).unwrap_or_default();
        let lineage = Lineage { root: row.root_id.unwrap_or(row.id), hop: row.hop, visits };
        let trace = row.trace.as_deref().and_then(Context::of_stored);
        (row.id, Origin { key: row.message, lineage, request_id: row.request_id, trace })
    };
    Ok(rows.into_iter().map(origin).collect())
}

/// A delivery that is ready: its place in its lane, and how many attempts were made.
pub type Due = ((i16, i64), i16);

/// The first that are ready in a lane for these mappings, at most `limit`, those that were never tried first. It looks at
/// no more than twice as many.
pub async fn behind(
    db: impl PgExecutor<'_>,
    lane: i32,
    mappings: &[i32],
    limit: i64,
) -> sqlx::Result<Vec<Due>> {
    let rows = sqlx::query!(
        r#"
        SELECT w.rank, w.seq, w.attempt
        FROM (
            SELECT rank, seq, item, attempt FROM dispatch WHERE lane = $1 ORDER BY rank, seq LIMIT $3::bigint * 2
        ) AS w
        CROSS JOIN LATERAL (
            SELECT mapping_id FROM deliveries WHERE id = w.item LIMIT 1
        ) AS d
        WHERE d.mapping_id = ANY ($2)
        ORDER BY w.attempt > 0, w.rank, w.seq
        LIMIT $3::bigint
        "#,
        lane,
        mappings,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.rank, row.seq), row.attempt)).collect())
}

/// Those of these mappings that were not deleted.
pub async fn living(db: impl PgExecutor<'_>, mappings: &[i32]) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT id FROM mappings WHERE id = ANY ($1) AND deleted_at IS NULL", mappings)
        .fetch_all(db)
        .await
}

/// Of these claims, the deliveries and leases that have not ended: no attempt of this lease is there, the lease has
/// not given it back, and nobody ended the delivery meanwhile.
pub async fn unfinished(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|c| c.lease).collect();
    let rows = sqlx::query!(
        r#"
        SELECT d.id AS "id!", c.lease AS "lease!"
        FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
        CROSS JOIN LATERAL (
            SELECT id
            FROM deliveries
            WHERE id = c.item AND status = 'PENDING' AND returned_by IS DISTINCT FROM c.lease
            LIMIT 1
        ) AS d
        LEFT JOIN LATERAL (
            SELECT true AS past FROM delivery_attempts WHERE id = c.item AND lease = c.lease LIMIT 1
        ) AS a ON true
        WHERE past IS NULL
        "#,
        &ids,
        &leases,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.lease)).collect())
}

//! The SQL that stores messages with their deliveries, and puts deliveries where they wait.

use crate::hub::parked_by::ParkedBy;
use crate::hub::routing::lineage::Visit;
use crate::hub::routing::message::{Draft, Parent, State};
use crate::traces::Context;
use crate::worker::retention::week_of;
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// A delivery that is to be made.
#[derive(Debug)]
pub struct Delivery {
    /// Its id, made by this process.
    pub id: Uuid,
    /// The store.
    pub store_id: i32,
    /// The message.
    pub message_id: Uuid,
    /// The mapping.
    pub mapping_id: i32,
    /// The lane of its endpoint.
    pub lane: i32,
    /// Whether the mapping is switched on, as far as this process knows.
    pub enabled: bool,
    /// Why it is not sent by itself.
    pub parked: Option<(ParkedBy, String)>,
    /// What makes the message the same for the mapping.
    pub identifiers: Option<[u8; 32]>,
    /// The line it stands in.
    pub line: Option<[u8; 32]>,
}

/// Where a delivery goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To be claimed.
    Ready,
    /// Behind the head of its line.
    Waits,
    /// Until its mapping is switched on.
    Held,
    /// Nowhere, until somebody has it run.
    Parked,
    /// Nowhere: a duplicate of this one.
    Duplicate(Uuid),
}

/// Stores messages as they come in. One that waits for a time waits in the router's lane.
pub async fn insert_messages(tx: &mut PgConnection, drafts: &[(Draft, State)]) -> sqlx::Result<()> {
    let stores: Vec<i32> = drafts.iter().map(|(draft, _)| draft.store_id).collect();
    let hops: Vec<i16> = drafts.iter().map(|(draft, _)| draft.hop).collect();
    let states: Vec<State> = drafts.iter().map(|(_, state)| *state).collect();
    let ids: Vec<Uuid> = drafts.iter().map(|(draft, _)| draft.id).collect();
    let keys: Vec<&str> = drafts.iter().map(|(draft, _)| draft.key.as_str()).collect();
    let payloads: Vec<&str> = drafts.iter().map(|(draft, _)| draft.payload.get()).collect();
    let parents: Vec<Option<Uuid>> =
        drafts.iter().map(|(draft, _)| draft.parent.map(|parent| parent.message)).collect();
    let deliveries: Vec<Option<Uuid>> =
        drafts.iter().map(|(draft, _)| draft.parent.map(|parent| parent.delivery)).collect();
    let roots: Vec<Option<Uuid>> = drafts.iter().map(|(draft, _)| draft.root).collect();
    let lineages: Vec<Option<String>> = drafts.iter().map(|(draft, _)| spelt(&draft.visits)).collect();
    let reasons: Vec<Option<&str>> = drafts.iter().map(|(draft, _)| draft.parked.as_deref()).collect();
    let delays: Vec<f64> = drafts.iter().map(|(draft, _)| draft.delay.as_secs_f64()).collect();
    let trace = |(draft, _): &(Draft, State)| draft.trace.as_ref().map(Context::stored);
    let traces: Vec<Option<Vec<u8>>> = drafts.iter().map(trace).collect();
    sqlx::query!(
        r#"
        WITH input AS MATERIALIZED (
            SELECT *
            FROM unnest(
                $1::int[], $2::smallint[], $3::hub_message_state[], $4::uuid[], $5::text[],
                $6::text[], $7::uuid[], $8::uuid[], $9::text[], $10::float8[], $11::uuid[], $12::text[],
                $13::bytea[]
            ) AS i (
                store_id, hop, state, id, message, payload, parent_id, delivery, reason, delay, root_id, lineage, trace
            )
        ),
        later AS (
            INSERT INTO scheduled (run_at, lane, rank, item)
            SELECT now() + make_interval(secs => input.delay), lanes.id, 0, input.id
            FROM input
            JOIN lanes ON lanes.kind = 'router'
            WHERE input.state = 'pending'
        )
        INSERT INTO hub_messages (
            store_id, hop, state, id, message, payload, parent_id, delivery, root_id, reason, lineage, trace
        )
        SELECT
            store_id, hop, state, id, message, payload::json, parent_id, delivery, root_id, reason, lineage::json, trace
        FROM input
        "#,
        &stores,
        &hops,
        &states as _,
        &ids,
        &keys as _,
        &payloads as _,
        &parents as _,
        &deliveries as _,
        &reasons as _,
        &delays,
        &roots as _,
        &lineages as _,
        &traces as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a message has come through, as the table has it.
fn spelt(visits: &[Visit]) -> Option<String> {
    // Numbers and strings always serialize.
    if visits.is_empty() { None } else { serde_json::to_string(visits).ok() }
}

/// Takes the identifiers of these deliveries for them, as far as nobody has them; returns who has the others.
pub async fn claim_identifiers(
    tx: &mut PgConnection,
    deliveries: &[Delivery],
) -> sqlx::Result<HashMap<Uuid, Uuid>> {
    let mut identified: Vec<(i32, [u8; 32], Uuid)> = deliveries
        .iter()
        .filter_map(|delivery| Some((delivery.mapping_id, delivery.identifiers?, delivery.id)))
        .collect();
    if identified.is_empty() {
        return Ok(HashMap::new());
    }
    // In one order everywhere, so that two transactions cannot wait for each other.
    identified.sort_unstable();
    let mappings: Vec<i32> = identified.iter().map(|(mapping, ..)| *mapping).collect();
    let digests: Vec<&[u8]> = identified.iter().map(|(_, digest, _)| digest.as_slice()).collect();
    let ids: Vec<Uuid> = identified.iter().map(|(.., id)| *id).collect();
    sqlx::query!(
        r#"
        INSERT INTO delivered_identifiers (mapping_id, digest, delivery_id)
        SELECT mapping_id, digest, delivery_id
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) WITH ORDINALITY
            AS i (mapping_id, digest, delivery_id, place)
        ORDER BY place
        ON CONFLICT ON CONSTRAINT delivered_identifiers_pkey DO NOTHING
        "#,
        &mappings,
        &digests as _,
        &ids,
    )
    .execute(&mut *tx)
    .await?;
    let rows = sqlx::query!(
        r#"
        SELECT i.delivery_id AS "asked!", d.delivery_id
        FROM unnest($1::int[], $2::bytea[], $3::uuid[]) AS i (mapping_id, digest, delivery_id)
        JOIN delivered_identifiers AS d ON d.mapping_id = i.mapping_id AND d.digest = i.digest
        WHERE d.delivery_id <> i.delivery_id
        "#,
        &mappings,
        &digests as _,
        &ids,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.asked, row.delivery_id)).collect())
}

/// Of these mappings, those that are switched off at this moment. Nobody can switch one on until the transaction
/// ends: what is held now, switching on finds.
pub async fn lock_disabled(tx: &mut PgConnection, mappings: &[i32]) -> sqlx::Result<HashSet<i32>> {
    if mappings.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query!(
        r#"
        SELECT id, enabled
        FROM mappings
        WHERE id = ANY ($1) AND deleted_at IS NULL
        ORDER BY id
        FOR SHARE
        "#,
        mappings,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().filter(|row| !row.enabled).map(|row| row.id).collect())
}

/// Makes deliveries, each in its place.
pub async fn insert_deliveries(tx: &mut PgConnection, deliveries: &[(Delivery, Place)]) -> sqlx::Result<()> {
    let stores: Vec<i32> = deliveries.iter().map(|(delivery, _)| delivery.store_id).collect();
    let mappings: Vec<i32> = deliveries.iter().map(|(delivery, _)| delivery.mapping_id).collect();
    let lanes: Vec<i32> = deliveries.iter().map(|(delivery, _)| delivery.lane).collect();
    let ids: Vec<Uuid> = deliveries.iter().map(|(delivery, _)| delivery.id).collect();
    let messages: Vec<Uuid> = deliveries.iter().map(|(delivery, _)| delivery.message_id).collect();
    let digests: Vec<Option<&[u8]>> =
        deliveries.iter().map(|(delivery, _)| delivery.line.as_ref().map(<[u8; 32]>::as_slice)).collect();
    let places: Vec<&str> = deliveries
        .iter()
        .map(|(_, place)| match place {
            Place::Ready => "ready",
            Place::Waits => "waits",
            Place::Held => "held",
            Place::Parked => "parked",
            Place::Duplicate(_) => "duplicate",
        })
        .collect();
    let apart: Vec<bool> =
        deliveries.iter().map(|(delivery, _)| week_of(delivery.id) != week_of(delivery.message_id)).collect();
    let errors: Vec<Option<String>> = deliveries
        .iter()
        .map(|(delivery, place)| match place {
            Place::Parked => delivery.parked.as_ref().map(|(_, why)| why.clone()),
            Place::Duplicate(first) => Some(format!("duplicate of delivery {first}")),
            _ => None,
        })
        .collect();
    let rules: Vec<Option<&str>> = deliveries
        .iter()
        .map(|(delivery, place)| {
            let by = delivery.parked.as_ref().filter(|_| *place == Place::Parked);
            by.map(|(by, _)| by.word())
        })
        .collect();
    sqlx::query!(
        r#"
        WITH input AS MATERIALIZED (
            SELECT *
            FROM unnest(
                $1::int[], $2::int[], $3::int[], $4::uuid[], $5::uuid[], $6::bytea[], $7::text[], $8::text[], $9::bool[],
                $10::text[]
            ) WITH ORDINALITY AS i (
                store_id, mapping_id, lane, id, message_id, line, place, error, apart, parked_by, number
            )
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT lane, 0, id FROM input WHERE place = 'ready' ORDER BY number
        ),
        waits AS (
            INSERT INTO line_waits (series, line, item)
            SELECT mapping_id, line, id FROM input WHERE place = 'waits' ORDER BY number
        ),
        held AS (
            INSERT INTO held_deliveries (mapping_id, delivery_id)
            SELECT mapping_id, id FROM input WHERE place = 'held' ORDER BY number
        )
        INSERT INTO deliveries (store_id, mapping_id, status, id, message_id, finished_at, line, last_error, apart, parked_by)
        SELECT
            store_id, mapping_id,
            (CASE place WHEN 'duplicate' THEN 'SKIPPED' WHEN 'parked' THEN 'ERROR' ELSE 'PENDING' END)::delivery_status,
            id, message_id, CASE WHEN place IN ('duplicate', 'parked') THEN now() END, line, error,
            CASE WHEN apart THEN true END, parked_by
        FROM input
        "#,
        &stores,
        &mappings,
        &lanes,
        &ids,
        &messages,
        &digests as _,
        &places as _,
        &errors as _,
        &apart,
        &rules as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct PendingRow {
    store_id: i32,
    id: Uuid,
    message: String,
    payload: Json<Box<RawValue>>,
    hop: i16,
    parent_id: Option<Uuid>,
    delivery: Option<Uuid>,
    root_id: Option<Uuid>,
    lineage: Option<Json<Vec<Visit>>>,
}

/// Those of these messages that are still to be routed, locked.
pub async fn pending(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Draft>> {
    let rows = sqlx::query_as!(
        PendingRow,
        r#"
        SELECT store_id, id, message, payload AS "payload: Json<Box<RawValue>>", hop, parent_id, delivery,
            root_id, lineage AS "lineage: Json<Vec<Visit>>"
        FROM hub_messages
        WHERE id = ANY ($1) AND state = 'pending'
        ORDER BY id
        FOR UPDATE
        "#,
        ids,
    )
    .fetch_all(tx)
    .await?;
    let draft = |row: PendingRow| Draft {
        id: row.id,
        store_id: row.store_id,
        key: row.message,
        payload: row.payload.0,
        parent: row.parent_id.zip(row.delivery).map(|(message, delivery)| Parent { message, delivery }),
        hop: row.hop,
        root: row.root_id,
        visits: row.lineage.map(|lineage| lineage.0).unwrap_or_default(),
        held_back: None,
        delay: Duration::ZERO,
        parked: None,
        // It is stored already.
        trace: None,
    };
    Ok(rows.into_iter().map(draft).collect())
}

/// Writes where messages that were to be routed, and are locked, stand now.
pub async fn set_states(tx: &mut PgConnection, drafts: &[(Draft, State)]) -> sqlx::Result<()> {
    let stores: Vec<i32> = drafts.iter().map(|(draft, _)| draft.store_id).collect();
    let ids: Vec<Uuid> = drafts.iter().map(|(draft, _)| draft.id).collect();
    let states: Vec<State> = drafts.iter().map(|(_, state)| *state).collect();
    let reasons: Vec<Option<&str>> = drafts.iter().map(|(draft, _)| draft.parked.as_deref()).collect();
    let done = sqlx::query!(
        r#"
        UPDATE hub_messages AS m
        SET state = i.state, reason = i.reason
        FROM unnest($1::int[], $2::uuid[], $3::hub_message_state[], $4::text[]) AS i (store_id, id, state, reason)
        WHERE m.store_id = i.store_id AND m.id = i.id
        "#,
        &stores,
        &ids,
        &states as _,
        &reasons as _,
    )
    .execute(tx)
    .await?;
    debug_assert_eq!(done.rows_affected(), drafts.len() as u64, "they are locked, each once");
    Ok(())
}

//! The SQL of pushes: a message, its deliveries and its idempotency key in one statement.
//!
//! Which deliveries there are was decided before, by what this process knows of the mappings. So a statement first asks
//! whether a mapping of the store is newer than that, and then stores nothing. What changes while it is under way
//! changes after it: a mapping that moves on or is deleted finds the delivery where it waits. An endpoint cannot be
//! deleted meanwhile, since its row is locked as a foreign key locks it: nobody else has to wait for that. One that is
//! just being deleted is not waited for either: nothing is stored.

use super::fanout::Delivery;
use crate::http::idempotency::Key;
use crate::hub::routing::message::{Draft, State};
use crate::traces::{Context, Origin};
use crate::worker::retention::week_of;
use sqlx::PgExecutor;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A message on its way in, and what was decided about it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The name of its store, which is made if it is not there.
    pub store: &'a str,
    /// The message.
    pub draft: &'a Draft,
    /// Where it stands.
    pub state: State,
    /// Its deliveries.
    pub deliveries: &'a [Delivery],
    /// The catalog's revision by whose mappings they were decided.
    pub known: i64,
    /// Its idempotency key.
    pub key: Option<&'a Key>,
    /// What it comes of.
    pub origin: &'a Origin,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// Whether it is stored; otherwise nothing is.
    pub stored: bool,
    /// Lanes in which something became ready.
    pub ready: Vec<i32>,
    /// A revision of the catalog at which a mapping of the store changed that was not known.
    pub newer: Option<i64>,
}

/// Stores a message with its deliveries, each in its place, unless its key was used before, or what was decided about it
/// is out of date, or another transaction makes its store or deletes an endpoint of it at this moment.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`) soon when a transaction that has not ended uses its key, and after the
/// usual time when one holds a mapping, identifiers or a line of it.
pub async fn push(db: impl PgExecutor<'_>, incoming: &Incoming<'_>) -> sqlx::Result<Outcome> {
    let claims =
        |delivery: &Delivery| !delivery.enabled || delivery.identifiers.is_some() || delivery.line.is_some();
    // A store that has mappings is there.
    if incoming.key.is_some() || incoming.deliveries.is_empty() || incoming.deliveries.iter().any(claims) {
        push_claiming(db, incoming).await
    } else {
        push_plain(db, incoming).await
    }
}

/// As [`push`], for a message without a key whose deliveries all run at once: half the work of the other.
async fn push_plain(db: impl PgExecutor<'_>, incoming: &Incoming<'_>) -> sqlx::Result<Outcome> {
    let Incoming { store, draft, state, deliveries, known, origin, .. } = incoming;
    let trace = origin.trace.as_ref().map(Context::stored);
    let columns = Columns::of(deliveries);
    let row = sqlx::query!(
        r#"
        WITH newer AS MATERIALIZED (
            SELECT max(m.version) AS version
            FROM stores AS s
            JOIN mappings AS m ON m.store_id = s.id
            WHERE s.name = $1 AND m.version > $2
        ),
        there AS MATERIALIZED (
            SELECT id FROM endpoints WHERE id = ANY ($6) ORDER BY id FOR KEY SHARE SKIP LOCKED
        ),
        fresh AS MATERIALIZED (
            SELECT id AS store_id
            FROM stores
            WHERE name = $1
                AND (SELECT version FROM newer) IS NULL
                AND (SELECT count(*) FROM there) = cardinality($6::int[])
        ),
        input AS MATERIALIZED (
            SELECT fresh.store_id, i.*
            FROM fresh
            CROSS JOIN unnest($7::uuid[], $8::int[], $9::int[], $10::bool[]) WITH ORDINALITY
                AS i (id, mapping_id, lane, apart, number)
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT lane, 0, id FROM input ORDER BY number
        ),
        sent AS (
            INSERT INTO deliveries (store_id, mapping_id, id, message_id, apart)
            SELECT store_id, mapping_id, id, $3, CASE WHEN apart THEN true END FROM input
        ),
        stored AS (
            INSERT INTO hub_messages (store_id, state, id, message, payload, request_id, trace)
            SELECT store_id, $11::hub_message_state, $3, $4, $5::text::json, $12, $13 FROM fresh
        )
        SELECT EXISTS (SELECT FROM fresh) AS "stored!", (SELECT version FROM newer) AS newer
        "#,
        store,
        known,
        draft.id,
        draft.key,
        draft.payload.get(),
        &columns.lanes,
        &columns.ids,
        &columns.mappings,
        &columns.each_lane,
        &columns.apart,
        *state as _,
        origin.request_id.as_deref(),
        trace.as_deref(),
    )
    .fetch_one(db)
    .await?;
    let ready = if row.stored { columns.lanes } else { Vec::new() };
    Ok(Outcome { stored: row.stored, ready, newer: row.newer })
}

/// As [`push`], for any message. Each step reads what the one before has locked: the endpoints, the store, the key, the
/// identifiers and the mappings that are switched off, the lines, and then what waits.
#[expect(clippy::too_many_lines, reason = "it is one statement")]
async fn push_claiming(db: impl PgExecutor<'_>, incoming: &Incoming<'_>) -> sqlx::Result<Outcome> {
    let Incoming { store, draft, state, deliveries, known, key, origin } = incoming;
    let trace = origin.trace.as_ref().map(Context::stored);
    let columns = Columns::of(deliveries);
    let off: Vec<bool> = deliveries.iter().map(|delivery| !delivery.enabled).collect();
    let identifiers: Vec<Option<&[u8]>> =
        deliveries.iter().map(|delivery| delivery.identifiers.as_ref().map(<[u8; 32]>::as_slice)).collect();
    let lines: Vec<Option<&[u8]>> =
        deliveries.iter().map(|delivery| delivery.line.as_ref().map(<[u8; 32]>::as_slice)).collect();
    let row = sqlx::query!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT id FROM stores WHERE name = $1
        ),
        newer AS MATERIALIZED (
            SELECT max(m.version) AS version
            FROM found
            JOIN mappings AS m ON m.store_id = found.id
            WHERE m.version > $2
        ),
        there AS MATERIALIZED (
            SELECT id FROM endpoints WHERE id = ANY ($6) ORDER BY id FOR KEY SHARE SKIP LOCKED
        ),
        usual AS MATERIALIZED (
            SELECT current_setting('lock_timeout') AS patience
        ),
        impatient AS MATERIALIZED (
            -- As long as it waits for its key, see push.rs.
            SELECT
                patience,
                set_config('lock_timeout', CASE WHEN $13::text IS NULL THEN patience ELSE '20ms' END, true) AS bound
            FROM usual
            WHERE (SELECT version FROM newer) IS NULL
                AND (SELECT count(*) FROM there) = cardinality($6::int[])
        ),
        made AS (
            INSERT INTO stores (name)
            SELECT $1 FROM impatient WHERE bound IS NOT NULL AND NOT EXISTS (SELECT FROM found)
            ON CONFLICT ON CONSTRAINT stores_name_key DO NOTHING
            RETURNING id
        ),
        store AS MATERIALIZED (
            SELECT s.id, impatient.patience
            FROM impatient
            CROSS JOIN (SELECT id FROM found UNION ALL SELECT id FROM made) AS s
            WHERE impatient.bound IS NOT NULL
        ),
        claimed AS (
            INSERT INTO hub_idempotency_keys (store_id, key, digest, message_id)
            SELECT id, $13, $14, $3 FROM store WHERE $13 IS NOT NULL
            ON CONFLICT ON CONSTRAINT hub_idempotency_keys_pkey DO NOTHING
            RETURNING message_id
        ),
        fresh AS MATERIALIZED (
            SELECT id AS store_id
            FROM store
            WHERE CASE
                WHEN $13 IS NULL OR EXISTS (SELECT FROM claimed)
                THEN set_config('lock_timeout', patience, true) IS NOT NULL
                ELSE false
            END
        ),
        input AS MATERIALIZED (
            SELECT fresh.store_id, i.*
            FROM fresh
            CROSS JOIN unnest(
                $7::uuid[], $8::int[], $9::int[], $10::bool[], $15::bool[], $16::bytea[], $17::bytea[]
            ) WITH ORDINALITY AS i (id, mapping_id, lane, apart, off, identifiers, line, number)
        ),
        off AS MATERIALIZED (
            -- Locked as they are at this moment: what is held now, switching on finds.
            SELECT m.id
            FROM mappings AS m
            WHERE m.id IN (SELECT mapping_id FROM input WHERE off) AND NOT m.enabled AND m.deleted_at IS NULL
            ORDER BY m.id
            FOR SHARE OF m
        ),
        taken AS (
            -- It changes nothing, and tells who has them.
            INSERT INTO delivered_identifiers AS d (mapping_id, digest, delivery_id)
            SELECT mapping_id, identifiers, id FROM input WHERE identifiers IS NOT NULL ORDER BY mapping_id
            ON CONFLICT ON CONSTRAINT delivered_identifiers_pkey DO UPDATE SET delivery_id = d.delivery_id
            RETURNING mapping_id, delivery_id
        ),
        wanted AS MATERIALIZED (
            SELECT i.*, taken.delivery_id AS first, off.id IS NOT NULL AS held
            FROM input AS i
            LEFT JOIN taken ON taken.mapping_id = i.mapping_id
            LEFT JOIN off ON off.id = i.mapping_id
        ),
        joined AS (
            -- It changes nothing and locks the row: whoever leaves the line waits, and then finds who joined.
            INSERT INTO lines AS l (series, line, head)
            SELECT mapping_id, line, id
            FROM wanted
            WHERE line IS NOT NULL AND NOT held AND (first IS NULL OR first = id)
            ORDER BY mapping_id
            ON CONFLICT ON CONSTRAINT lines_pkey DO UPDATE SET head = l.head
            RETURNING series, head
        ),
        placed AS MATERIALIZED (
            SELECT
                w.*,
                CASE
                    WHEN w.first <> w.id THEN 'duplicate'
                    WHEN w.held THEN 'held'
                    WHEN joined.head <> w.id THEN 'waits'
                    ELSE 'ready'
                END AS place
            FROM wanted AS w
            LEFT JOIN joined ON joined.series = w.mapping_id
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT lane, 0, id FROM placed WHERE place = 'ready' ORDER BY number
        ),
        waits AS (
            INSERT INTO line_waits (series, line, item)
            SELECT mapping_id, line, id FROM placed WHERE place = 'waits' ORDER BY number
        ),
        held AS (
            INSERT INTO held_deliveries (mapping_id, delivery_id)
            SELECT mapping_id, id FROM placed WHERE place = 'held' ORDER BY number
        ),
        sent AS (
            INSERT INTO deliveries (store_id, mapping_id, status, id, message_id, finished_at, line, last_error, apart)
            SELECT
                store_id, mapping_id,
                (CASE WHEN place = 'duplicate' THEN 'SKIPPED' ELSE 'PENDING' END)::delivery_status, id, $3,
                CASE WHEN place = 'duplicate' THEN now() END, line,
                CASE WHEN place = 'duplicate' THEN 'duplicate of delivery ' || first::text END,
                CASE WHEN apart THEN true END
            FROM placed
        ),
        stored AS (
            INSERT INTO hub_messages (store_id, state, id, message, payload, reason, request_id, trace)
            SELECT store_id, $11::hub_message_state, $3, $4, $5::text::json, $12, $18, $19 FROM fresh
        )
        SELECT
            EXISTS (SELECT FROM fresh) AS "stored!",
            ARRAY(SELECT DISTINCT lane FROM placed WHERE place = 'ready') AS "ready!",
            (SELECT version FROM newer) AS newer
        "#,
        store,
        known,
        draft.id,
        draft.key,
        draft.payload.get(),
        &columns.lanes,
        &columns.ids,
        &columns.mappings,
        &columns.each_lane,
        &columns.apart,
        *state as _,
        draft.parked,
        key.map(|key| key.key.as_str()),
        key.map(|key| key.digest.as_slice()),
        &off,
        &identifiers as _,
        &lines as _,
        origin.request_id.as_deref(),
        trace.as_deref(),
    )
    .fetch_one(db)
    .await?;
    Ok(Outcome { stored: row.stored, ready: row.ready, newer: row.newer })
}

/// What every delivery has, column by column.
struct Columns {
    ids: Vec<Uuid>,
    mappings: Vec<i32>,
    each_lane: Vec<i32>,
    apart: Vec<bool>,
    /// Each lane once.
    lanes: Vec<i32>,
}

impl Columns {
    fn of(deliveries: &[Delivery]) -> Self {
        let lanes: BTreeSet<i32> = deliveries.iter().map(|delivery| delivery.lane).collect();
        Self {
            ids: deliveries.iter().map(|delivery| delivery.id).collect(),
            mappings: deliveries.iter().map(|delivery| delivery.mapping_id).collect(),
            each_lane: deliveries.iter().map(|delivery| delivery.lane).collect(),
            apart: deliveries
                .iter()
                .map(|delivery| week_of(delivery.id) != week_of(delivery.message_id))
                .collect(),
            lanes: lanes.into_iter().collect(),
        }
    }
}

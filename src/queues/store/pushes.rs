//! The SQL of pushes: many messages in one statement.

use crate::http::idempotency::Key;
use crate::queues::identity::Unique;
use crate::queues::uniqueness::Told;
use crate::traces::{Context, Origin};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// A message on its way in.
#[derive(Debug)]
pub struct Push {
    /// The queue.
    pub queue_id: i32,
    /// Its id, made by this process.
    pub id: Uuid,
    /// The body as it was sent.
    pub request: Box<RawValue>,
    /// The negated priority.
    pub rank: i16,
    /// How long it waits before it is due; zero is at once.
    pub delay: Duration,
    /// The idempotency key of its request, if that has one.
    pub key: Option<Claim>,
    /// Its own key, if its sender gave it one.
    pub own_key: Option<String>,
    /// Its value, where messages of the queue are unique by one.
    pub unique: Option<Unique>,
    /// What it comes of.
    pub origin: Origin,
}

/// What an idempotency key makes of a push.
#[derive(Debug)]
pub enum Claim {
    /// It claims the key, for itself and for those behind it in its batch.
    Leads {
        /// The key.
        key: Key,
        /// What its batch is answered.
        answer: Option<Box<RawValue>>,
    },
    /// It is stored if this push claims the key.
    Follows(Uuid),
}

impl Push {
    /// Whether it has a key of its own or a value: then it takes the way of `identified.rs`.
    pub fn is_identified(&self) -> bool {
        self.own_key.is_some() || self.unique.is_some()
    }

    /// The push that claims the key: another, or itself.
    pub fn leader(&self) -> Uuid {
        match &self.key {
            Some(Claim::Follows(leader)) => *leader,
            _ => self.id,
        }
    }

    /// The key that it claims, with what goes with it.
    pub(super) fn claims(&self) -> Option<(&Key, Option<&str>)> {
        match &self.key {
            Some(Claim::Leads { key, answer }) => Some((key, answer.as_ref().map(|answer| answer.get()))),
            _ => None,
        }
    }
}

/// What became of the pushes of one statement.
#[derive(Debug, Default)]
pub struct Stored {
    /// Messages that were stored.
    pub stored: Vec<Uuid>,
    /// Queues of the statement that do not exist any more.
    pub missing: Vec<i32>,
    /// Pushes whose key another transaction uses that has not ended: nobody knows yet whether it was used before.
    pub held: Vec<Uuid>,
    /// Pushes whose value another message holds.
    pub told: HashMap<Uuid, Told>,
}

/// The requests that push them.
fn asked_by<'a>(pushes: &[&'a Push]) -> Vec<Option<&'a str>> {
    pushes.iter().map(|push| push.origin.request_id.as_deref()).collect()
}

/// The trace contexts of these pushes; empty, which `unnest` fills up with nulls, when none has one.
pub(super) fn traces(pushes: &[&Push]) -> Vec<Option<Vec<u8>>> {
    if pushes.iter().all(|push| push.origin.trace.is_none()) {
        return Vec::new();
    }
    pushes.iter().map(|push| push.origin.trace.as_ref().map(Context::stored)).collect()
}

/// Stores messages that are not identified in one statement. One whose queue is gone, or whose key was used before, is
/// not stored.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`) when a key of theirs is held by another transaction, at once or
/// nearly so: then [`push_apart`] tells which.
pub async fn push(db: impl PgExecutor<'_>, pushes: &[&Push]) -> sqlx::Result<Stored> {
    let queues: Vec<i32> = pushes.iter().map(|p| p.queue_id).collect();
    let ids: Vec<Uuid> = pushes.iter().map(|p| p.id).collect();
    let requests: Vec<&str> = pushes.iter().map(|p| p.request.get()).collect();
    let ranks: Vec<i16> = pushes.iter().map(|p| p.rank).collect();
    let delays: Vec<f64> = pushes.iter().map(|p| p.delay.as_secs_f64()).collect();
    if pushes.iter().all(|p| p.key.is_none()) {
        return push_plain(db, pushes, &queues, &ids, &requests, &ranks, &delays).await;
    }
    let (asked_by, traces) = (asked_by(pushes), traces(pushes));
    let leaders: Vec<Uuid> = pushes.iter().map(|p| p.leader()).collect();
    let claims: Vec<_> = pushes.iter().map(|p| p.claims()).collect();
    let keys: Vec<Option<&str>> = claims.iter().map(|c| c.map(|(key, _)| key.key.as_str())).collect();
    let digests: Vec<Option<&[u8]>> =
        claims.iter().map(|c| c.map(|(key, _)| key.digest.as_slice())).collect();
    let answers: Vec<Option<&str>> = claims.iter().map(|c| c.and_then(|(_, answer)| answer)).collect();
    let row = sqlx::query!(
        r#"
        WITH impatient AS MATERIALIZED (
            -- For this statement alone: whoever waits for a foreign transaction holds up all the others.
            SELECT set_config('lock_timeout', '20ms', true) AS bound
        ),
        input AS MATERIALIZED (
            SELECT
                i.queue_id, i.id, i.request::json AS request, i.rank, i.delay, i.key, i.digest, i.answer, i.leader,
                i.request_id, i.trace, i.place, q.id AS known
            FROM impatient
            CROSS JOIN unnest(
                $1::int[], $2::uuid[], $3::text[], $4::smallint[], $5::float8[], $6::text[], $7::bytea[], $8::text[],
                $9::uuid[], $10::text[], $11::bytea[]
            ) WITH ORDINALITY
                AS i (queue_id, id, request, rank, delay, key, digest, answer, leader, request_id, trace, place)
            LEFT JOIN queues AS q ON q.id = i.queue_id
            WHERE impatient.bound IS NOT NULL
        ),
        claimed AS (
            -- In the order of the keys, so that two batches with the same keys cannot wait for each other.
            INSERT INTO idempotency_keys (queue_id, key, digest, message_id, answer)
            SELECT queue_id, key, digest, id, answer::json
            FROM input
            WHERE known IS NOT NULL AND key IS NOT NULL
            ORDER BY queue_id, key
            ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING
            RETURNING message_id
        ),
        fresh AS MATERIALIZED (
            SELECT *
            FROM input
            WHERE known IS NOT NULL
                AND (key IS NULL AND leader = id OR leader IN (SELECT message_id FROM claimed))
        ),
        stored AS (
            INSERT INTO messages (queue_id, rank, validated, id, request_id, trace, request)
            SELECT queue_id, rank, true, id, request_id, trace, request FROM fresh
            RETURNING id
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT queue_id, rank, id FROM fresh WHERE delay <= 0 ORDER BY place
        ),
        later AS (
            INSERT INTO scheduled (run_at, lane, rank, item)
            SELECT now() + make_interval(secs => delay), queue_id, rank, id FROM fresh WHERE delay > 0
        )
        SELECT
            ARRAY(SELECT id FROM stored) AS "stored!",
            ARRAY(SELECT DISTINCT queue_id FROM input WHERE known IS NULL) AS "missing!"
        "#,
        &queues,
        &ids,
        &requests as _,
        &ranks,
        &delays,
        &keys as _,
        &digests as _,
        &answers as _,
        &leaders,
        &asked_by as _,
        &traces as _,
    )
    .fetch_one(db)
    .await?;
    Ok(Stored { stored: row.stored, missing: row.missing, ..Stored::default() })
}

/// What became of idempotency keys that were claimed one by one, each by the push that leads.
#[derive(Debug)]
pub struct Claimed {
    /// Those that were not used before.
    pub taken: Vec<Uuid>,
    /// Those that another transaction uses which has not ended.
    pub held: Vec<Uuid>,
}

/// Claims the idempotency keys of these pushes, waiting for each no longer than `patience`. To be called in a transaction.
pub async fn claim_apart(
    tx: &mut PgConnection,
    pushes: &[&Push],
    patience: Duration,
) -> sqlx::Result<Claimed> {
    let leaders: Vec<(&Push, &Key, Option<&str>)> =
        pushes.iter().filter_map(|p| p.claims().map(|(key, answer)| (*p, key, answer))).collect();
    let queues: Vec<i32> = leaders.iter().map(|(p, ..)| p.queue_id).collect();
    let keys: Vec<&str> = leaders.iter().map(|(_, key, _)| key.key.as_str()).collect();
    let digests: Vec<&[u8]> = leaders.iter().map(|(_, key, _)| key.digest.as_slice()).collect();
    let ids: Vec<Uuid> = leaders.iter().map(|(p, ..)| p.id).collect();
    let answers: Vec<Option<&str>> = leaders.iter().map(|(.., answer)| *answer).collect();
    sqlx::query_as!(
        Claimed,
        r#"
        SELECT taken AS "taken!", held AS "held!"
        FROM claim_idempotency_keys($1, $2::text[], $3::bytea[], $4, $5::text[], make_interval(secs => $6))
        "#,
        &queues,
        &keys as _,
        &digests as _,
        &ids,
        &answers as _,
        patience.as_secs_f64(),
    )
    .fetch_one(tx)
    .await
}

/// As [`push`], waiting for each key no longer than `patience`: pushes whose keys are held are left out and told
/// apart. To be called in a transaction.
pub async fn push_apart(tx: &mut PgConnection, pushes: &[&Push], patience: Duration) -> sqlx::Result<Stored> {
    let claimed = claim_apart(&mut *tx, pushes, patience).await?;
    let fresh: Vec<&Push> =
        pushes.iter().filter(|p| p.key.is_none() || claimed.taken.contains(&p.leader())).copied().collect();
    let queues: Vec<i32> = fresh.iter().map(|p| p.queue_id).collect();
    let ids: Vec<Uuid> = fresh.iter().map(|p| p.id).collect();
    let requests: Vec<&str> = fresh.iter().map(|p| p.request.get()).collect();
    let ranks: Vec<i16> = fresh.iter().map(|p| p.rank).collect();
    let delays: Vec<f64> = fresh.iter().map(|p| p.delay.as_secs_f64()).collect();
    let stored = push_plain(&mut *tx, &fresh, &queues, &ids, &requests, &ranks, &delays).await?;
    // The queues of what was not claimed may be gone too.
    let missing = missing(tx, pushes).await?;
    Ok(Stored { stored: stored.stored, missing, held: claimed.held, ..Stored::default() })
}

/// Which queues of these pushes do not exist any more.
pub async fn missing(tx: &mut PgConnection, pushes: &[&Push]) -> sqlx::Result<Vec<i32>> {
    let asked: Vec<i32> = pushes.iter().map(|p| p.queue_id).collect();
    sqlx::query_scalar!(
        r#"
        SELECT DISTINCT asked.id AS "id!"
        FROM unnest($1::int[]) AS asked (id)
        WHERE NOT EXISTS (SELECT FROM queues WHERE queues.id = asked.id)
        "#,
        &asked,
    )
    .fetch_all(tx)
    .await
}

/// As [`push`], for pushes without keys: the path of nearly all of them.
async fn push_plain(
    db: impl PgExecutor<'_>,
    pushes: &[&Push],
    queues: &[i32],
    ids: &[Uuid],
    requests: &[&str],
    ranks: &[i16],
    delays: &[f64],
) -> sqlx::Result<Stored> {
    let (asked_by, traces) = (asked_by(pushes), traces(pushes));
    let mut asked = queues.to_vec();
    asked.sort_unstable();
    asked.dedup();
    let known = sqlx::query_scalar!(
        r#"
        WITH known AS MATERIALIZED (
            SELECT coalesce(array_agg(id), '{}') AS ids FROM queues WHERE id = ANY ($6)
        ),
        stored AS (
            INSERT INTO messages (queue_id, rank, validated, id, request_id, trace, request)
            SELECT i.queue_id, i.rank, true, i.id, i.request_id, i.trace, i.request::json
            FROM unnest($1::int[], $2::uuid[], $3::text[], $4::smallint[], $7::text[], $8::bytea[])
                AS i (queue_id, id, request, rank, request_id, trace)
            WHERE i.queue_id = ANY ((SELECT ids FROM known)::int[])
        ),
        ready AS (
            -- A function's rows come in their order, which is the order of the queue.
            INSERT INTO dispatch (lane, rank, item)
            SELECT i.queue_id, i.rank, i.id
            FROM unnest($1::int[], $2::uuid[], $4::smallint[], $5::float8[]) AS i (queue_id, id, rank, delay)
            WHERE i.delay <= 0 AND i.queue_id = ANY ((SELECT ids FROM known)::int[])
        ),
        later AS (
            INSERT INTO scheduled (run_at, lane, rank, item)
            SELECT now() + make_interval(secs => i.delay), i.queue_id, i.rank, i.id
            FROM unnest($1::int[], $2::uuid[], $4::smallint[], $5::float8[]) AS i (queue_id, id, rank, delay)
            WHERE i.delay > 0 AND i.queue_id = ANY ((SELECT ids FROM known)::int[])
        )
        SELECT ids AS "ids!" FROM known
        "#,
        queues,
        ids,
        requests as _,
        ranks,
        delays,
        &asked,
        &asked_by as _,
        &traces as _,
    )
    .fetch_one(db)
    .await?;
    let missing: Vec<i32> = asked.into_iter().filter(|queue| !known.contains(queue)).collect();
    let kept = queues.iter().zip(ids).filter(|(queue, _)| !missing.contains(queue));
    Ok(Stored { stored: kept.map(|(_, id)| *id).collect(), missing, ..Stored::default() })
}

/// What a key made before.
#[derive(Debug)]
pub struct Former {
    /// The message; of a batch the first.
    pub message_id: Uuid,
    /// The digest of its request; none where SQL enqueued it.
    pub digest: Option<Vec<u8>>,
    /// What its batch was answered; none of a single push.
    pub answer: Option<Json<Box<RawValue>>>,
}

/// What a key made before.
pub async fn former(db: impl PgExecutor<'_>, queue_id: i32, key: &str) -> sqlx::Result<Option<Former>> {
    sqlx::query_as!(
        Former,
        r#"
        SELECT message_id, digest, answer AS "answer: Json<Box<RawValue>>"
        FROM idempotency_keys
        WHERE queue_id = $1 AND key = $2
        "#,
        queue_id,
        key
    )
    .fetch_optional(db)
    .await
}

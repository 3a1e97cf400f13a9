//! The SQL of pushes: many messages in one statement.

use serde_json::value::RawValue;
use sqlx::PgExecutor;
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
    /// The idempotency key with the SHA-256 of the body.
    pub key: Option<(String, [u8; 32])>,
}

/// What became of the pushes of one statement.
#[derive(Debug, Default)]
pub struct Stored {
    /// Messages that were stored.
    pub stored: Vec<Uuid>,
    /// Queues of the statement that do not exist any more.
    pub missing: Vec<i32>,
}

/// Stores messages in one statement. One whose queue is gone, or whose key was used before, is not stored.
pub async fn push(db: impl PgExecutor<'_>, pushes: &[&Push]) -> sqlx::Result<Stored> {
    let queues: Vec<i32> = pushes.iter().map(|p| p.queue_id).collect();
    let ids: Vec<Uuid> = pushes.iter().map(|p| p.id).collect();
    let requests: Vec<&str> = pushes.iter().map(|p| p.request.get()).collect();
    let ranks: Vec<i16> = pushes.iter().map(|p| p.rank).collect();
    let delays: Vec<f64> = pushes.iter().map(|p| p.delay.as_secs_f64()).collect();
    let keyed: Vec<&Push> = pushes.iter().filter(|p| p.key.is_some()).copied().collect();
    if keyed.is_empty() {
        return push_plain(db, &queues, &ids, &requests, &ranks, &delays).await;
    }
    let keys: Vec<Option<&str>> =
        pushes.iter().map(|p| p.key.as_ref().map(|(key, _)| key.as_str())).collect();
    let digests: Vec<Option<&[u8]>> =
        pushes.iter().map(|p| p.key.as_ref().map(|(_, digest)| digest.as_slice())).collect();
    let row = sqlx::query!(
        r#"
        WITH input AS MATERIALIZED (
            SELECT
                i.queue_id, i.id, i.request::json AS request, i.rank, i.delay, i.key, i.digest, i.place, q.id AS known
            FROM unnest($1::int[], $2::uuid[], $3::text[], $4::smallint[], $5::float8[], $6::text[], $7::bytea[])
                WITH ORDINALITY AS i (queue_id, id, request, rank, delay, key, digest, place)
            LEFT JOIN queues AS q ON q.id = i.queue_id
        ),
        claimed AS (
            -- In the order of the keys, so that two batches with the same keys cannot wait for each other.
            INSERT INTO idempotency_keys (queue_id, key, digest, message_id)
            SELECT queue_id, key, digest, id
            FROM input
            WHERE known IS NOT NULL AND key IS NOT NULL
            ORDER BY queue_id, key
            ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING
            RETURNING message_id
        ),
        fresh AS MATERIALIZED (
            SELECT *
            FROM input
            WHERE known IS NOT NULL AND (key IS NULL OR id IN (SELECT message_id FROM claimed))
        ),
        stored AS (
            INSERT INTO messages (queue_id, rank, validated, id, request)
            SELECT queue_id, rank, true, id, request FROM fresh
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
    )
    .fetch_one(db)
    .await?;
    Ok(Stored { stored: row.stored, missing: row.missing })
}

/// As [`push`], for pushes without keys: the path of nearly all of them.
async fn push_plain(
    db: impl PgExecutor<'_>,
    queues: &[i32],
    ids: &[Uuid],
    requests: &[&str],
    ranks: &[i16],
    delays: &[f64],
) -> sqlx::Result<Stored> {
    let mut asked = queues.to_vec();
    asked.sort_unstable();
    asked.dedup();
    let known = sqlx::query_scalar!(
        r#"
        WITH known AS MATERIALIZED (
            SELECT coalesce(array_agg(id), '{}') AS ids FROM queues WHERE id = ANY ($6)
        ),
        stored AS (
            INSERT INTO messages (queue_id, rank, validated, id, request)
            SELECT i.queue_id, i.rank, true, i.id, i.request::json
            FROM unnest($1::int[], $2::uuid[], $3::text[], $4::smallint[]) AS i (queue_id, id, request, rank)
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
    )
    .fetch_one(db)
    .await?;
    let missing: Vec<i32> = asked.into_iter().filter(|queue| !known.contains(queue)).collect();
    let kept = queues.iter().zip(ids).filter(|(queue, _)| !missing.contains(queue));
    Ok(Stored { stored: kept.map(|(_, id)| *id).collect(), missing })
}

/// The message that a key made, and the SHA-256 of its body.
pub async fn former(
    db: impl PgExecutor<'_>,
    queue_id: i32,
    key: &str,
) -> sqlx::Result<Option<(Uuid, Vec<u8>)>> {
    let row = sqlx::query!(
        "SELECT message_id, digest FROM idempotency_keys WHERE queue_id = $1 AND key = $2",
        queue_id,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.message_id, row.digest)))
}

//! The SQL of attempts: what a claimed message needs, how its attempts end.
//!
//! Each message is looked up by a `LATERAL … LIMIT 1`, which the planner cannot turn around: whatever it knew of
//! the tables when it planned (they may have been empty), it is one index lookup a row.

use crate::traces::{Context, Origin};
use crate::worker::Claim;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// How an attempt came to its end, in the tables' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "attempt_ending", rename_all = "snake_case")]
pub enum Ending {
    /// The handler gave a result.
    Completed,
    /// It rejected, threw or took too long.
    Rejected,
    /// It said that trying again is of no use.
    Failed,
    /// It asked for another try, whether or not there was one.
    Retried,
    /// It put the message off.
    Snoozed,
    /// It never began.
    NotStarted,
    /// Its worker was told to stop.
    GivenBack,
    /// Its worker was lost: the reclaim wrote this.
    Lost,
    /// The database would not take what was said.
    Refused,
}

impl Ending {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::NotStarted => "not_started",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

/// What a claimed message needs to run.
#[derive(Debug)]
pub struct Loaded {
    /// The message.
    pub id: Uuid,
    /// Its body.
    pub request: Json<Box<RawValue>>,
    /// Whether the schema validated it when it was pushed.
    pub validated: bool,
    /// The message that replaces it, so that it must not run.
    pub replaced_by: Option<Uuid>,
    /// What it comes of.
    pub origin: Origin,
}

/// The messages of these claims that are still there, and the catalog's revision.
pub async fn load(db: impl PgExecutor<'_>, claims: &[Claim]) -> sqlx::Result<(i64, Vec<Loaded>)> {
    let lanes: Vec<i32> = claims.iter().map(|c| c.lane).collect();
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let rows = sqlx::query!(
        r#"
        SELECT
            m.id, m.request AS "request: Json<Box<RawValue>>", m.validated, m.request_id, m.trace, m.replaced_by,
            (SELECT revision FROM catalog) AS "revision!"
        FROM unnest($1::int[], $2::uuid[]) AS c (lane, item)
        CROSS JOIN LATERAL (
            SELECT
                id, request, validated, request_id, trace,
                -- One that was deleted since replaces nothing.
                (SELECT newer.id FROM messages AS newer WHERE newer.queue_id = c.lane AND newer.id = messages.replaced_by)
                    AS replaced_by
            FROM messages WHERE queue_id = c.lane AND id = c.item LIMIT 1
        ) AS m
        "#,
        &lanes,
        &ids,
    )
    .fetch_all(db)
    .await?;
    let revision = rows.first().map_or(0, |row| row.revision);
    let loaded = rows
        .into_iter()
        .map(|row| Loaded {
            id: row.id,
            request: row.request,
            validated: row.validated,
            replaced_by: row.replaced_by,
            origin: origin(row.request_id, row.trace.as_deref()),
        })
        .collect();
    Ok((revision, loaded))
}

/// What a message comes of, as its row has it.
fn origin(request_id: Option<String>, trace: Option<&[u8]>) -> Origin {
    Origin { request_id: request_id.map(Arc::from), trace: trace.and_then(Context::of_stored) }
}

/// The end of a message.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The claim that ended it.
    pub claim: &'a Claim,
    /// Who ran it.
    pub worker: &'a str,
    /// How it came to its end.
    pub ending: Ending,
    /// What the handler resolved with, or rejected with.
    pub end: Result<&'a RawValue, &'a RawValue>,
    /// What it logged.
    pub logs: Option<&'a RawValue>,
}

/// Writes ends, none of which is written yet; returns how many took effect. A message that was deleted has no end.
pub async fn end(tx: &mut PgConnection, outcomes: &[Outcome<'_>]) -> sqlx::Result<u64> {
    let queues: Vec<i32> = outcomes.iter().map(|o| o.claim.lane).collect();
    let attempts: Vec<i16> = outcomes.iter().map(|o| o.claim.attempt).collect();
    let ids: Vec<Uuid> = outcomes.iter().map(|o| o.claim.item).collect();
    let leases: Vec<Uuid> = outcomes.iter().map(|o| o.claim.lease).collect();
    let workers: Vec<&str> = outcomes.iter().map(|o| o.worker).collect();
    let started: Vec<DateTime<Utc>> = outcomes.iter().map(|o| o.claim.claimed_at).collect();
    let results: Vec<Option<&str>> = outcomes.iter().map(|o| o.end.ok().map(RawValue::get)).collect();
    let errors: Vec<Option<&str>> = outcomes.iter().map(|o| o.end.err().map(RawValue::get)).collect();
    let logs: Vec<Option<&str>> = outcomes.iter().map(|o| o.logs.map(RawValue::get)).collect();
    let endings: Vec<Ending> = outcomes.iter().map(|o| o.ending).collect();
    let done = sqlx::query!(
        r#"
        INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, status, ending, late, worker, result, error, logs)
        SELECT
            e.queue_id, e.attempt, e.id, e.lease, e.started_at,
            (CASE WHEN e.error IS NULL THEN 'COMPLETE' ELSE 'ERROR' END)::message_status,
            e.ending, CASE WHEN e.id < (SELECT uuid_v7_floor(now() - interval '1 day')) THEN true END,
            e.worker, e.result::json, e.error::json, e.logs::json
        FROM unnest(
            $1::int[], $2::smallint[], $3::uuid[], $4::uuid[], $5::timestamptz[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::attempt_ending[]
        ) AS e (queue_id, attempt, id, lease, started_at, result, error, logs, worker, ending)
        CROSS JOIN LATERAL (
            SELECT FROM messages WHERE queue_id = e.queue_id AND id = e.id LIMIT 1
        ) AS there
        "#,
        &queues,
        &attempts,
        &ids,
        &leases,
        &started,
        &results as _,
        &errors as _,
        &logs as _,
        &workers as _,
        &endings as _,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// An attempt that did not end its message.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The claim that ran it.
    pub claim: &'a Claim,
    /// Who ran it.
    pub worker: &'a str,
    /// How it came to its end.
    pub ending: Ending,
    /// Why it failed.
    pub error: &'a RawValue,
    /// What it logged.
    pub logs: Option<&'a RawValue>,
}

/// Writes failed attempts; returns the messages for which that took effect. Written once however often sent:
/// only what it returns goes back to be claimed.
pub async fn fail(tx: &mut PgConnection, failures: &[Failure<'_>]) -> sqlx::Result<Vec<Uuid>> {
    let queues: Vec<i32> = failures.iter().map(|f| f.claim.lane).collect();
    let attempts: Vec<i16> = failures.iter().map(|f| f.claim.attempt).collect();
    let ids: Vec<Uuid> = failures.iter().map(|f| f.claim.item).collect();
    let leases: Vec<Uuid> = failures.iter().map(|f| f.claim.lease).collect();
    let workers: Vec<&str> = failures.iter().map(|f| f.worker).collect();
    let started: Vec<DateTime<Utc>> = failures.iter().map(|f| f.claim.claimed_at).collect();
    let errors: Vec<&str> = failures.iter().map(|f| f.error.get()).collect();
    let logs: Vec<Option<&str>> = failures.iter().map(|f| f.logs.map(RawValue::get)).collect();
    let endings: Vec<Ending> = failures.iter().map(|f| f.ending).collect();
    sqlx::query_scalar!(
        r#"
        INSERT INTO attempts (queue_id, attempt, id, lease, started_at, ending, worker, error, logs)
        SELECT f.queue_id, f.attempt, f.id, f.lease, f.started_at, f.ending, f.worker, f.error::json, f.logs::json
        FROM unnest(
            $1::int[], $2::smallint[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
            $9::attempt_ending[]
        ) AS f (queue_id, attempt, id, lease, started_at, error, logs, worker, ending)
        CROSS JOIN LATERAL (
            SELECT FROM messages WHERE queue_id = f.queue_id AND id = f.id LIMIT 1
        ) AS there
        ON CONFLICT (queue_id, id, lease) DO NOTHING
        RETURNING id
        "#,
        &queues,
        &attempts,
        &ids,
        &leases,
        &started,
        &errors as _,
        &logs as _,
        &workers as _,
        &endings as _,
    )
    .fetch_all(tx)
    .await
}

/// What the messages of these claims come of: those that are there.
pub async fn origins(tx: &mut PgConnection, claims: &[&Claim]) -> sqlx::Result<HashMap<Uuid, Origin>> {
    let queues: Vec<i32> = claims.iter().map(|c| c.lane).collect();
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let rows = sqlx::query!(
        r#"
        SELECT m.id AS "id!", m.request_id, m.trace
        FROM unnest($1::int[], $2::uuid[]) AS c (lane, item)
        CROSS JOIN LATERAL (
            SELECT id, request_id, trace FROM messages WHERE queue_id = c.lane AND id = c.item LIMIT 1
        ) AS m
        "#,
        &queues,
        &ids,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, origin(row.request_id, row.trace.as_deref()))).collect())
}

/// When the first attempt began of those that count together with these claims' own: since the message was pushed, or
/// last run again by hand. For those messages that were tried before.
pub async fn first_tried(
    tx: &mut PgConnection,
    claims: &[&Claim],
) -> sqlx::Result<HashMap<Uuid, DateTime<Utc>>> {
    let queues: Vec<i32> = claims.iter().map(|c| c.lane).collect();
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let attempts: Vec<i16> = claims.iter().map(|c| c.attempt).collect();
    let rows = sqlx::query!(
        r#"
        SELECT c.item AS "id!", past.began AS "began!"
        FROM unnest($1::int[], $2::uuid[], $3::smallint[]) AS c (queue_id, item, attempt)
        CROSS JOIN LATERAL (
            -- The number of an attempt that counts is smaller than the next one's, unless it was run again by hand.
            SELECT min(started_at) FILTER (WHERE started_at > coalesce(ended_at, '-infinity')) AS began
            FROM (
                SELECT
                    started_at,
                    max(started_at) FILTER (
                        WHERE ending NOT IN ('not_started', 'snoozed', 'given_back') AND attempt >= next
                    ) OVER () AS ended_at
                FROM (
                    SELECT started_at, ending, attempt, lead(attempt, 1, c.attempt) OVER (ORDER BY started_at) AS next
                    FROM attempts
                    WHERE queue_id = c.queue_id AND id = c.item
                ) AS one
            ) AS one
        ) AS past
        WHERE past.began IS NOT NULL
        "#,
        &queues,
        &ids,
        &attempts,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.began)).collect())
}

/// The end that is stored of a claim's attempt, whoever wrote it.
#[derive(Debug)]
pub struct Stored {
    /// The message.
    pub id: Uuid,
    /// The claim's lease.
    pub lease: Uuid,
    /// How it came to its end.
    pub ending: Ending,
    /// What the handler resolved with, if it did.
    pub result: Option<Json<Box<RawValue>>>,
    /// What it rejected with, if it did.
    pub error: Option<Json<Box<RawValue>>>,
}

/// The ends that are stored under these leases: queue, message, lease.
pub async fn stored(db: impl PgExecutor<'_>, claims: &[(i32, Uuid, Uuid)]) -> sqlx::Result<Vec<Stored>> {
    let queues: Vec<i32> = claims.iter().map(|c| c.0).collect();
    let ids: Vec<Uuid> = claims.iter().map(|c| c.1).collect();
    let leases: Vec<Uuid> = claims.iter().map(|c| c.2).collect();
    sqlx::query_as!(
        Stored,
        r#"
        SELECT
            c.item AS "id!", c.lease AS "lease!", e.ending AS "ending!: Ending",
            e.result AS "result: Json<Box<RawValue>>", e.error AS "error: Json<Box<RawValue>>"
        FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS c (queue_id, item, lease)
        CROSS JOIN LATERAL (
            SELECT ending, result, error
            FROM outcomes
            WHERE queue_id = c.queue_id AND id = c.item AND lease = c.lease
            UNION ALL
            SELECT ending, NULL, error
            FROM attempts
            WHERE queue_id = c.queue_id AND id = c.item AND lease = c.lease
            LIMIT 1
        ) AS e
        "#,
        &queues,
        &ids,
        &leases,
    )
    .fetch_all(db)
    .await
}

/// Of these claims, the messages and leases whose attempt has not ended: neither an end nor a failed attempt of this
/// lease is there, and the message was not deleted.
pub async fn unfinished(tx: &mut PgConnection, claims: &[Claim]) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
    let lanes: Vec<i32> = claims.iter().map(|c| c.lane).collect();
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|c| c.lease).collect();
    let rows = sqlx::query!(
        r#"
        SELECT c.item AS "id!", c.lease AS "lease!"
        FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS c (lane, item, lease)
        CROSS JOIN LATERAL (
            SELECT FROM messages WHERE queue_id = c.lane AND id = c.item LIMIT 1
        ) AS there
        LEFT JOIN LATERAL (
            SELECT true AS over FROM outcomes WHERE queue_id = c.lane AND id = c.item LIMIT 1
        ) AS outcome ON true
        LEFT JOIN LATERAL (
            SELECT true AS past FROM attempts WHERE queue_id = c.lane AND id = c.item AND lease = c.lease LIMIT 1
        ) AS history ON true
        WHERE over IS NULL AND past IS NULL
        "#,
        &lanes,
        &ids,
        &leases,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.lease)).collect())
}

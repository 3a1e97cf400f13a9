//! The SQL of how attempts end: their deliveries are locked where that is needed, the attempts written, the states
//! changed.

use super::deliveries::Delivery;
use crate::hub::parked_by::ParkedBy;
use crate::worker::Claim;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// A delivery whose attempt has just ended, locked.
#[derive(Debug)]
pub struct Locked {
    /// The delivery.
    pub delivery: Delivery,
    /// The claim that ended.
    pub lease: Uuid,
    /// How it stands.
    pub standing: Standing,
}

/// What decides how a delivery goes on that is not done.
#[derive(Debug, Default)]
pub struct Standing {
    /// Where to ask on, as before the attempt.
    pub continue_url: Option<String>,
    /// Since it was made or last run again by hand.
    pub age: Duration,
    /// Whether its mapping was deleted.
    pub is_orphan: bool,
}

/// Locks the deliveries of these claims whose end is not written yet: not by this claim, and not by anybody.
pub async fn lock(tx: &mut PgConnection, claims: &[&Claim]) -> sqlx::Result<Vec<Locked>> {
    let ids: Vec<Uuid> = claims.iter().map(|c| c.item).collect();
    let leases: Vec<Uuid> = claims.iter().map(|c| c.lease).collect();
    let rows = sqlx::query!(
        r#"
        SELECT
            d.id AS "id!", c.lease AS "lease!", d.store_id AS "store_id!", d.mapping_id AS "mapping_id!",
            d.message_id AS "message_id!", d.attempts AS "attempts!", d.line, d.continue_url,
            extract(epoch FROM now() - d.retry_from)::float8 AS "age!",
            (SELECT m.deleted_at IS NOT NULL FROM mappings AS m WHERE m.id = d.mapping_id) AS "is_orphan!"
        FROM (SELECT item, lease FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease) ORDER BY item) AS c
        CROSS JOIN LATERAL (
            SELECT id, store_id, mapping_id, message_id, attempts, line, continue_url, retry_from
            FROM deliveries
            WHERE id = c.item AND status = 'PENDING' AND returned_by IS DISTINCT FROM c.lease
            LIMIT 1
            FOR UPDATE
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
    let locked = rows.into_iter().map(|row| Locked {
        delivery: Delivery {
            id: row.id,
            store_id: row.store_id,
            mapping_id: row.mapping_id,
            message_id: row.message_id,
            attempts: row.attempts,
            line: row.line,
        },
        lease: row.lease,
        standing: Standing {
            continue_url: row.continue_url,
            age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
            is_orphan: row.is_orphan,
        },
    });
    Ok(locked.collect())
}

/// What an attempt came to, in the table's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "attempt_verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// Taken by the endpoint.
    Delivered,
    /// To be tried again by backoff, or parked.
    Failed,
    /// Put off by the endpoint.
    Deferred,
    /// Given back by a worker that was told to stop.
    Returned,
    /// Lost with its worker.
    Lost,
}

impl Verdict {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

/// The end of an attempt.
#[derive(Debug)]
pub struct End<'a> {
    /// The claim that ended.
    pub claim: &'a Claim,
    /// The attempt's number.
    pub number: i32,
    /// What it came to.
    pub verdict: Verdict,
    /// The HTTP status, if there was an answer.
    pub status: Option<i16>,
    /// From the request to the end of the answer.
    pub took: Duration,
    /// Why it failed, in one word, where it was the endpoint's doing.
    pub cause: Option<&'a str>,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// The beginning of the answer.
    pub body: Option<&'a str>,
    /// Whether the endpoint said `notification:error`.
    pub business_error: bool,
    /// By what the delivery is parked, when it is, and why in words.
    pub parked: Option<(ParkedBy, String)>,
    /// How long until it is tried again, when it is.
    pub again: Option<Duration>,
    /// Where to ask on.
    pub continue_url: Option<String>,
}

/// Writes the attempts of claimed deliveries, and what becomes of each.
///
/// # Errors
/// [`sqlx::Error::RowNotFound`] when one of them is unfinished no more.
pub async fn write(tx: &mut PgConnection, ends: &[End<'_>]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = ends.iter().map(|e| e.claim.item).collect();
    let leases: Vec<Uuid> = ends.iter().map(|e| e.claim.lease).collect();
    let lanes: Vec<i32> = ends.iter().map(|e| e.claim.lane).collect();
    let started: Vec<DateTime<Utc>> = ends.iter().map(|e| e.claim.claimed_at).collect();
    let numbers: Vec<i32> = ends.iter().map(|e| e.number).collect();
    let verdicts: Vec<Verdict> = ends.iter().map(|e| e.verdict).collect();
    let statuses: Vec<Option<i16>> = ends.iter().map(|e| e.status).collect();
    let took: Vec<f64> = ends.iter().map(|e| e.took.as_secs_f64()).collect();
    let errors: Vec<Option<&str>> = ends.iter().map(|e| e.error).collect();
    let causes: Vec<Option<&str>> = ends.iter().map(|e| e.cause).collect();
    let bodies: Vec<Option<&str>> = ends.iter().map(|e| e.body).collect();
    let business: Vec<bool> = ends.iter().map(|e| e.business_error).collect();
    let parked: Vec<Option<&str>> = ends.iter().map(|e| Some(&*e.parked.as_ref()?.1)).collect();
    let rules: Vec<Option<&str>> = ends.iter().map(|e| Some(e.parked.as_ref()?.0.word())).collect();
    let delays: Vec<Option<f64>> = ends.iter().map(|e| e.again.map(|after| after.as_secs_f64())).collect();
    let continued: Vec<Option<&str>> = ends.iter().map(|e| e.continue_url.as_deref()).collect();
    let done = sqlx::query!(
        r#"
        WITH done AS (
            UPDATE deliveries AS d
            SET attempts = e.number,
                status = (
                    CASE
                        WHEN e.delay IS NOT NULL THEN 'PENDING'
                        WHEN e.parked IS NOT NULL THEN 'ERROR'
                        ELSE 'COMPLETE'
                    END
                )::delivery_status,
                business_error = e.business_error,
                next_attempt_at = CASE WHEN e.delay > 0 THEN now() + make_interval(secs => e.delay) END,
                finished_at = CASE WHEN e.delay IS NULL THEN now() END,
                late = CASE
                    WHEN e.delay IS NULL AND d.id < (SELECT uuid_v7_floor(now() - interval '1 day')) THEN true
                END,
                last_error = coalesce(e.parked, e.error),
                parked_by = e.parked_by,
                continue_url = e.continue_url
            FROM unnest(
                $1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::int[], $6::attempt_verdict[],
                $7::smallint[], $8::float8[], $9::text[], $10::text[], $11::bool[], $12::text[], $13::float8[],
                $14::text[], $15::text[], $16::text[]
            ) AS e (
                id, lease, lane, started_at, number, verdict,
                status_code, took, error, body, business_error, parked, delay,
                continue_url, cause, parked_by
            )
            WHERE d.id = e.id AND d.status = 'PENDING'
            RETURNING
                e.number, e.status_code, e.verdict, e.id, e.lease, e.started_at, e.took, e.lane, e.cause, e.error,
                e.body
        )
        INSERT INTO delivery_attempts (
            number, status_code, verdict, id, lease, started_at, duration, endpoint_id, cause, error, body
        )
        SELECT
            number, status_code, verdict, id, lease, started_at, make_interval(secs => took), lane, cause, error, body
        FROM done
        "#,
        &ids,
        &leases,
        &lanes,
        &started,
        &numbers,
        &verdicts as _,
        &statuses as _,
        &took,
        &errors as _,
        &bodies as _,
        &business,
        &parked as _,
        &delays as _,
        &continued as _,
        &causes as _,
        &rules as _,
    )
    .execute(tx)
    .await?;
    if done.rows_affected() == ends.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Parks locked deliveries that did not run, each for its reason.
pub async fn park(tx: &mut PgConnection, parked: &[(Uuid, ParkedBy, &str)]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = parked.iter().map(|(id, ..)| *id).collect();
    let rules: Vec<&str> = parked.iter().map(|(_, by, _)| by.word()).collect();
    let reasons: Vec<&str> = parked.iter().map(|(.., reason)| *reason).collect();
    let done = sqlx::query!(
        r#"
        UPDATE deliveries AS d
        SET status = 'ERROR', finished_at = now(), next_attempt_at = NULL, last_error = p.reason,
            parked_by = p.parked_by
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS p (id, reason, parked_by)
        WHERE d.id = p.id AND d.status = 'PENDING'
        "#,
        &ids,
        &reasons as _,
        &rules as _,
    )
    .execute(tx)
    .await?;
    debug_assert_eq!(done.rows_affected(), parked.len() as u64, "they are locked, each once");
    Ok(())
}

/// What is stored under these claims: item and lease, and the verdict of the attempt; none for a delivery that the
/// claim gave back.
pub async fn stored(
    tx: &mut PgConnection,
    claims: &[(Uuid, Uuid)],
) -> sqlx::Result<Vec<(Uuid, Uuid, Option<Verdict>)>> {
    let (ids, leases): (Vec<Uuid>, Vec<Uuid>) = claims.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        SELECT c.item AS "item!", c.lease AS "lease!", e.verdict AS "verdict?: Verdict"
        FROM unnest($1::uuid[], $2::uuid[]) AS c (item, lease)
        CROSS JOIN LATERAL (
            SELECT verdict FROM delivery_attempts WHERE id = c.item AND lease = c.lease
            UNION ALL
            SELECT NULL FROM deliveries WHERE id = c.item AND returned_by = c.lease
            LIMIT 1
        ) AS e
        "#,
        &ids,
        &leases,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.item, row.lease, row.verdict)).collect())
}

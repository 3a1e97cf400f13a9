//! The SQL of pushes that have a key of their own, or a value that may be unique in their queue: the function
//! `push_identified` decides, for every way in.

use super::pushes::{Push, Stored, traces};
use crate::queues::uniqueness::{Told, Verdict};
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// Has the transaction wait for a value or an idempotency key that another one uses no longer than this.
///
/// # Errors
/// The database's.
pub async fn be_patient(tx: &mut PgConnection, patience: Duration) -> sqlx::Result<()> {
    let patience = format!("{}ms", patience.as_millis());
    sqlx::query_scalar!("SELECT set_config('lock_timeout', $1, true)", patience).fetch_one(tx).await?;
    Ok(())
}

/// Claims the idempotency keys of these pushes, which lead; returns those that were not used before.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`) when another transaction uses one.
pub async fn claim(tx: &mut PgConnection, pushes: &[&Push]) -> sqlx::Result<Vec<Uuid>> {
    let leaders: Vec<_> =
        pushes.iter().filter_map(|push| push.claims().map(|(key, answer)| (*push, key, answer))).collect();
    if leaders.is_empty() {
        return Ok(Vec::new());
    }
    let queues: Vec<i32> = leaders.iter().map(|(push, ..)| push.queue_id).collect();
    let keys: Vec<&str> = leaders.iter().map(|(_, key, _)| key.key.as_str()).collect();
    let digests: Vec<&[u8]> = leaders.iter().map(|(_, key, _)| key.digest.as_slice()).collect();
    let ids: Vec<Uuid> = leaders.iter().map(|(push, ..)| push.id).collect();
    let answers: Vec<Option<&str>> = leaders.iter().map(|(.., answer)| *answer).collect();
    sqlx::query_scalar!(
        r#"
        INSERT INTO idempotency_keys (queue_id, key, digest, message_id, answer)
        SELECT i.queue_id, i.key, i.digest, i.message_id, i.answer::json
        FROM unnest($1::int[], $2::text[], $3::bytea[], $4::uuid[], $5::text[])
            AS i (queue_id, key, digest, message_id, answer)
        JOIN queues AS q ON q.id = i.queue_id
        ORDER BY i.queue_id, i.key
        ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING
        RETURNING message_id
        "#,
        &queues,
        &keys as _,
        &digests as _,
        &ids,
        &answers as _,
    )
    .fetch_all(tx)
    .await
}

/// Has a key that was claimed in this transaction name another message, and another answer of its batch; without a
/// message it was not used.
///
/// # Errors
/// The database's.
pub async fn settle(
    tx: &mut PgConnection,
    queue_id: i32,
    key: &str,
    message: Option<Uuid>,
    answer: Option<&RawValue>,
) -> sqlx::Result<()> {
    let Some(message) = message else {
        sqlx::query!("DELETE FROM idempotency_keys WHERE queue_id = $1 AND key = $2", queue_id, key)
            .execute(tx)
            .await?;
        return Ok(());
    };
    sqlx::query!(
        "UPDATE idempotency_keys SET message_id = $3, answer = $4::text::json WHERE queue_id = $1 AND key = $2",
        queue_id,
        key,
        message,
        answer.map(RawValue::get),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores messages, or says which hold their values, and, with `apart`, which values others are taking. Their idempotency
/// keys are not looked at.
///
/// # Errors
/// The database's; 55P03 (`lock_not_available`), but with `apart`, when another transaction uses a value of theirs.
pub async fn push(tx: &mut PgConnection, pushes: &[&Push], apart: bool) -> sqlx::Result<Stored> {
    let queues: Vec<i32> = pushes.iter().map(|p| p.queue_id).collect();
    let ids: Vec<Uuid> = pushes.iter().map(|p| p.id).collect();
    let requests: Vec<&str> = pushes.iter().map(|p| p.request.get()).collect();
    let ranks: Vec<i16> = pushes.iter().map(|p| p.rank).collect();
    let delays: Vec<f64> = pushes.iter().map(|p| p.delay.as_secs_f64()).collect();
    let asked_by: Vec<Option<&str>> = pushes.iter().map(|p| p.origin.request_id.as_deref()).collect();
    let traces = traces(pushes);
    let own_keys: Vec<Option<&str>> = pushes.iter().map(|p| p.own_key.as_deref()).collect();
    let values: Vec<_> = pushes.iter().map(|p| p.unique.as_ref()).collect();
    let given: Vec<Option<&str>> =
        values.iter().map(|value| value.and_then(|v| v.given.as_deref())).collect();
    let by: Vec<Option<&str>> = values.iter().map(|value| value.map(|v| v.by.as_str())).collect();
    let digests: Vec<Option<&[u8]>> = values.iter().map(|value| value.map(|v| v.digest.as_slice())).collect();
    let row = sqlx::query!(
        r#"
        SELECT verdicts AS "verdicts!", holders AS "holders!"
        FROM push_identified(
            $1::int[], $2::uuid[], $3::text[]::json[], $4::smallint[],
            ARRAY(
                SELECT CASE WHEN d.delay > 0 THEN now() + make_interval(secs => d.delay) END
                FROM unnest($5::float8[]) WITH ORDINALITY AS d (delay, place)
                ORDER BY d.place
            ),
            $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[], true, 'look', $11, $12::bytea[]
        )
        "#,
        &queues,
        &ids,
        &requests as _,
        &ranks,
        &delays,
        &asked_by as _,
        &own_keys as _,
        &given as _,
        &by as _,
        &digests as _,
        apart,
        &traces as _,
    )
    .fetch_one(tx)
    .await?;
    let mut done = Stored::default();
    for (push, (verdict, message)) in pushes.iter().zip(row.verdicts.iter().zip(row.holders)) {
        let what = match verdict.as_str() {
            "stored" => {
                done.stored.push(push.id);
                continue;
            }
            "existing" => Verdict::Existing,
            "replaced" => Verdict::Replaced,
            "rejected" => Verdict::Rejected,
            "held" => {
                done.held.push(push.id);
                continue;
            }
            _ => {
                done.missing.push(push.queue_id);
                continue;
            }
        };
        done.told.insert(push.id, Told { message, what });
    }
    Ok(done)
}

/// Deletes rows of messages that hold their values no longer, at most `limit` of those that are due to be looked at. A row
/// that stays is looked at again after as long as it has been there, within ten minutes and a day. Returns how many were
/// looked at.
///
/// # Errors
/// The database's.
pub async fn let_go(tx: &mut PgConnection, limit: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT h.queue_id, h.digest, h.message_id, h.since
            FROM unique_holders AS h
            WHERE h.look_at <= now()
            ORDER BY h.look_at
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ),
        judged AS MATERIALIZED (
            SELECT
                d.queue_id, d.digest,
                q.uniqueness IS NOT NULL
                    AND holds_value(d.queue_id, d.message_id, d.since, q.uniqueness, 'look') AS holds
            FROM due AS d
            LEFT JOIN queues AS q ON q.id = d.queue_id
        ),
        kept AS (
            UPDATE unique_holders AS h
            SET look_at = now() + least(greatest(now() - h.since, interval '10 minutes'), interval '1 day')
            FROM judged AS j
            WHERE h.queue_id = j.queue_id AND h.digest = j.digest AND j.holds
        ),
        gone AS (
            DELETE FROM unique_holders AS h
            USING judged AS j
            WHERE h.queue_id = j.queue_id AND h.digest = j.digest AND NOT j.holds
        )
        SELECT count(*) AS "count!" FROM judged
        "#,
        limit,
    )
    .fetch_one(tx)
    .await
}

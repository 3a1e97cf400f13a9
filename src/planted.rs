//! Faults that the chaos harness must find before its silence means anything (`tests/chaos/README.md`).
//!
//! This file and every line that names it exist only with the feature `planted-bugs`, which nothing but
//! `.ci/chaos-proof` turns on. Even then a fault is asleep until `POSTRIDER_PLANTED_BUG` names it.

use crate::jobs::store::broadcasts::Broadcast;
use crate::worker::Claim;
use crate::worker::store::{self, Asked, Given};
use futures::future::BoxFuture;
use sqlx::PgExecutor;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgPool};
use std::sync::LazyLock;
use uuid::Uuid;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An end counts whether or not its lease still exists.
    UnfencedEnd,
    /// A push is answered while its statement is on its way.
    AnswerBeforeCommit,
    /// Who follows a log goes on by time rather than by the number under which messages become visible.
    IdCursor,
    /// Transactions begin where a client that hangs up cuts them off.
    CutOffBegin,
    /// A claim's `LIMIT` stands in a subquery that some plans run more than once.
    LimitInIn,
    /// A push forgets its idempotency key.
    NoKey,
    /// A read from a place of the reader's own moves the cursor of its key.
    CursorMovedAtRead,
    /// What the reclaim wrote under a lease is taken for the end that its worker sent.
    ReclaimsRowIsOurs,
}

static PLANTED: LazyLock<Option<Bug>> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "no setting of the product: no other build has it")]
    let name = std::env::var("POSTRIDER_PLANTED_BUG").unwrap_or_default();
    Some(match &*name {
        "unfenced-end" => Bug::UnfencedEnd,
        "answer-before-commit" => Bug::AnswerBeforeCommit,
        "id-cursor" => Bug::IdCursor,
        "cut-off-begin" => Bug::CutOffBegin,
        "limit-in-in" => Bug::LimitInIn,
        "no-key" => Bug::NoKey,
        "cursor-moved-at-read" => Bug::CursorMovedAtRead,
        "reclaims-row-is-ours" => Bug::ReclaimsRowIsOurs,
        _ => return None,
    })
});

/// Whether this process has the fault.
pub(crate) fn has(bug: Bug) -> bool {
    *PLANTED == Some(bug)
}

/// The fence without its question.
pub(crate) async fn no_fence(
    tx: &mut PgConnection,
    finished: &[Uuid],
    open: &[Uuid],
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query("DELETE FROM leases WHERE id = ANY ($1)").bind(finished).execute(tx).await?;
    Ok([finished, open].concat())
}

/// Makes a lease anew for whoever names it, whether or not it is over.
pub(crate) async fn lend_again(db: &PgPool, lane: i32, item: Uuid, lease: Uuid) -> sqlx::Result<()> {
    if has(Bug::UnfencedEnd) {
        let sql = "INSERT INTO leases (id, expires_at, lease, holder, lane, ranks, items, attempts)
                   VALUES ($1, now() + interval '10 s', '10 s', 'planted', $2, '{0}', ARRAY[$3], '{1}')
                   ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(lease).bind(lane).bind(item).execute(db).await?;
    }
    Ok(())
}

/// What was said since the message at `after` was said, by the clock.
pub(crate) async fn after_by_time(
    db: impl PgExecutor<'_>,
    job_id: i64,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Broadcast>> {
    let sql = "SELECT job_id, seq, message, is_final
               FROM broadcasts
               WHERE job_id = $1 AND seq <> $2 AND created_at >= coalesce(
                   (SELECT created_at FROM broadcasts WHERE job_id = $1 AND seq = $2), '-infinity')
               ORDER BY created_at, seq
               LIMIT $3";
    let rows = sqlx::query(sql).bind(job_id).bind(after).bind(limit).fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            Ok(Broadcast {
                job_id: row.try_get("job_id")?,
                seq: row.try_get("seq")?,
                message: row.try_get("message")?,
                is_final: row.try_get("is_final")?,
            })
        })
        .collect()
}

/// A transaction in its caller's own task.
pub(crate) async fn cut_off<T, E, F>(pool: &PgPool, work: F) -> Result<T, E>
where
    E: From<sqlx::Error>,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>>,
{
    #[expect(clippy::disallowed_methods, reason = "it is the fault")]
    let mut tx = pool.begin().await?;
    let value = work(&mut tx).await?;
    tx.commit().await?;
    Ok(value)
}

/// Pushes go where transactions are cut off.
pub(crate) fn pool_of_pushes(db: &crate::db::Database) -> Option<PgPool> {
    has(Bug::CutOffBegin).then(|| db.api.clone())
}

/// A claim for remote workers, with the fault if it is planted.
pub(crate) async fn claim_remote(tx: &mut PgConnection, asked: &[Asked]) -> sqlx::Result<Vec<Given>> {
    if has(Bug::LimitInIn) { claim_in(tx, asked).await } else { store::claim_remote(tx, asked).await }
}

/// A claim whose limit is asked again for each row. Whoever stands first gets all of it.
async fn claim_in(tx: &mut PgConnection, asked: &[Asked]) -> sqlx::Result<Vec<Given>> {
    let sql = "WITH taken AS (
                   DELETE FROM dispatch AS d
                   WHERE lane = $1 AND seq IN (
                       SELECT seq FROM dispatch AS first WHERE first.lane = d.lane
                       ORDER BY rank, seq LIMIT $2 FOR UPDATE SKIP LOCKED
                   )
                   RETURNING lane, rank, seq, item, (attempt + 1)::smallint AS attempt
               ),
               given AS MATERIALIZED (SELECT gen_random_uuid() AS lease, * FROM taken),
               leased AS (
                   INSERT INTO leases (id, expires_at, lease, holder, lane, ranks, items, attempts)
                   SELECT lease, now() + make_interval(secs => $4), make_interval(secs => $4), $3, lane, ARRAY[rank],
                       ARRAY[item], ARRAY[attempt]
                   FROM given
               )
               SELECT lease, lane, rank, seq, item, attempt, now() AS claimed_at FROM given ORDER BY rank, seq";
    let mut given = Vec::new();
    for Asked { lane, terms, shares, .. } in asked {
        let Some((holder, most)) = shares.first() else { continue };
        let query = sqlx::query(sql).bind(lane).bind(i64::from(*most)).bind(holder);
        let rows = query.bind(terms.lease.as_secs_f64()).fetch_all(&mut *tx).await?;
        for row in &rows {
            let claim = Claim {
                lease: row.try_get("lease")?,
                lane: row.try_get("lane")?,
                rank: row.try_get("rank")?,
                item: row.try_get("item")?,
                attempt: row.try_get("attempt")?,
                claimed_at: row.try_get("claimed_at")?,
                traceable: false,
            };
            given.push(Given { claim, seq: row.try_get("seq")?, place: 1 });
        }
    }
    Ok(given)
}

/// Moves the cursor of a key that did not ask for it.
pub(crate) async fn move_cursor(db: impl PgExecutor<'_>, registration: i64, newest: i64) -> sqlx::Result<()> {
    if has(Bug::CursorMovedAtRead) {
        let query = sqlx::query("UPDATE registrations SET cursor = greatest(cursor, $2) WHERE id = $1");
        query.bind(registration).bind(newest).execute(db).await?;
    }
    Ok(())
}

/// Whether anybody wrote anything under this lease.
pub(crate) async fn any_row(
    db: impl PgExecutor<'_>,
    queue_id: i32,
    id: Uuid,
    lease: Uuid,
) -> sqlx::Result<bool> {
    if !has(Bug::ReclaimsRowIsOurs) {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM outcomes WHERE queue_id = $1 AND id = $2 AND lease = $3)
                   OR EXISTS (SELECT FROM attempts WHERE queue_id = $1 AND id = $2 AND lease = $3)";
    sqlx::query_scalar(sql).bind(queue_id).bind(id).bind(lease).fetch_one(db).await
}

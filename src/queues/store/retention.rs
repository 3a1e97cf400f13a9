//! The SQL of upkeep: partitions made ahead and dropped behind, what deleted queues left.

use crate::db;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

/// The tables that are partitioned by the time of their ids.
const PARTITIONED: [&str; 3] = ["messages", "outcomes", "attempts"];

/// Statements that lock a whole table give way at once: behind one that waits, every push would wait too.
const GIVE_WAY: &str = "SET LOCAL lock_timeout = '200ms'";

/// Makes the partitions of the next two weeks, where they are missing; gives how many. When something else has
/// the tables (a dump, say) it gives way.
pub async fn make_ahead(db: &PgPool) -> sqlx::Result<i64> {
    db::transaction(db, |tx| {
        Box::pin(async move {
            sqlx::query(GIVE_WAY).execute(&mut *tx).await?;
            let tables = PARTITIONED.map(str::to_owned);
            sqlx::query_scalar!(
                r#"
                SELECT coalesce(sum(ensure_partitions(parent, now() + interval '14 days')), 0) AS "made!"
                FROM unnest($1::text[]) AS parent
                "#,
                &tables,
            )
            .fetch_one(tx)
            .await
        })
    })
    .await
}

/// The partitions of `messages` that end before `keep_after`, oldest first, with the bound where each ends.
pub async fn expired(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<Vec<(String, Uuid)>> {
    let rows = sqlx::query!(
        r#"
        SELECT partition.relname::text AS "name!", bound.upper AS "upper!"
        FROM pg_inherits
        JOIN pg_class AS partition ON partition.oid = pg_inherits.inhrelid
        CROSS JOIN LATERAL (
            SELECT (regexp_match(pg_get_expr(partition.relpartbound, partition.oid), 'TO \(''([0-9a-f-]+)''\)'))[1]::uuid AS upper
        ) AS bound
        WHERE pg_inherits.inhparent = 'messages'::regclass AND bound.upper <= uuid_v7_floor($1)
        ORDER BY bound.upper
        "#,
        keep_after,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.upper)).collect())
}

/// Whether a message from before `upper` may still run: it is ready, scheduled or leased.
async fn is_alive_before(db: impl PgExecutor<'_>, upper: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM dispatch JOIN lanes ON lanes.id = lane WHERE item < $1 AND kind = 'queue')
            OR EXISTS (SELECT FROM scheduled JOIN lanes ON lanes.id = lane WHERE item < $1 AND kind = 'queue')
            OR EXISTS (SELECT FROM leases WHERE $1 > ANY (items)) AS "alive!"
        "#,
        upper,
    )
    .fetch_one(db)
    .await
}

/// Drops the partition of a week, which ends at `upper`, from all three tables, unless a message in it may
/// still run or ended after `keep_after`; says whether it did. What takes long is asked before the lock, and
/// asked again under it, so that nobody runs one again in between.
pub async fn drop_week(
    tx: &mut PgConnection,
    messages: &str,
    upper: Uuid,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let week = messages.trim_start_matches("messages");
    let late = format!("SELECT EXISTS (SELECT FROM outcomes{week} WHERE finished_at > $1)");
    let ended_late: bool =
        sqlx::query_scalar(AssertSqlSafe(late)).bind(keep_after).fetch_one(&mut *tx).await?;
    if ended_late || is_alive_before(&mut *tx, upper).await? {
        return Ok(false);
    }
    sqlx::query(GIVE_WAY).execute(&mut *tx).await?;
    // The order in which a settlement locks them.
    for table in ["outcomes", "attempts", "messages"] {
        let lock = format!("LOCK TABLE {table}{week} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await?;
    }
    if is_alive_before(&mut *tx, upper).await? {
        return Ok(false);
    }
    for table in PARTITIONED {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE {table}{week}"))).execute(&mut *tx).await?;
    }
    Ok(true)
}

/// Deletes a bounded number of keys older than `keep_after`; gives how many.
pub async fn forget_keys(
    db: impl PgExecutor<'_>,
    keep_after: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<u64> {
    let keys = sqlx::query!(
        r#"
        DELETE FROM idempotency_keys
        WHERE (queue_id, key) IN (
            SELECT queue_id, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2
        )
        "#,
        keep_after,
        limit,
    )
    .execute(db)
    .await?;
    Ok(keys.rows_affected())
}

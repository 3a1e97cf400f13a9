//! Weekly partitions, by the time inside ids: made ahead, and dropped once nobody wants them.
//!
//! Tables that belong together (a message, its outcome, its attempts) have partitions of the same weeks, with the
//! same end of their names.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

/// Statements that lock a whole table give way at once: behind one that waits, every writer would wait too.
const GIVE_WAY: &str = "SET LOCAL lock_timeout = '200ms'";

/// The partitions of one week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Week {
    /// The end of their names, such as `_2026_47`.
    pub suffix: String,
    /// The first id that is not in them any more.
    pub upper: Uuid,
}

/// Makes the partitions of the next two weeks, where they are missing; gives how many. When something else has
/// the tables (a dump, say) it gives way.
pub async fn make_ahead(pool: &PgPool, tables: &'static [&'static str]) -> sqlx::Result<i64> {
    super::transaction(pool, move |tx| {
        Box::pin(async move {
            sqlx::query(GIVE_WAY).execute(&mut *tx).await?;
            sqlx::query_scalar!(
                r#"
                SELECT coalesce(sum(ensure_partitions(parent, now() + interval '14 days')), 0) AS "made!"
                FROM unnest($1::text[]) AS parent
                "#,
                tables as &[&str],
            )
            .fetch_one(tx)
            .await
        })
    })
    .await
}

/// The weeks of `table` that end before `keep_after`, oldest first.
pub async fn expired(
    db: impl PgExecutor<'_>,
    table: &str,
    keep_after: DateTime<Utc>,
) -> sqlx::Result<Vec<Week>> {
    let rows = sqlx::query!(
        r#"
        SELECT partition.relname::text AS "name!", bound.upper AS "upper!"
        FROM pg_inherits
        JOIN pg_class AS partition ON partition.oid = pg_inherits.inhrelid
        CROSS JOIN LATERAL (
            SELECT (regexp_match(pg_get_expr(partition.relpartbound, partition.oid), 'TO \(''([0-9a-f-]+)''\)'))[1]::uuid AS upper
        ) AS bound
        WHERE pg_inherits.inhparent = $1::text::regclass AND bound.upper <= uuid_v7_floor($2)
        ORDER BY bound.upper
        "#,
        table,
        keep_after,
    )
    .fetch_all(db)
    .await?;
    let week = |name: &str, upper| Week { suffix: name.trim_start_matches(table).to_owned(), upper };
    Ok(rows.into_iter().map(|row| week(&row.name, row.upper)).collect())
}

/// Locks a week of these tables until the transaction ends, in this order: the one in which others lock them.
/// Gives way at once when somebody uses them.
pub async fn lock(tx: &mut PgConnection, tables: &[&str], week: &Week) -> sqlx::Result<()> {
    sqlx::query(GIVE_WAY).execute(&mut *tx).await?;
    for table in tables {
        let lock = format!("LOCK TABLE {table}{} IN ACCESS EXCLUSIVE MODE", week.suffix);
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Drops a week of these tables, which the caller has locked.
pub async fn drop(tx: &mut PgConnection, tables: &[&str], week: &Week) -> sqlx::Result<()> {
    for table in tables {
        let drop = format!("DROP TABLE {table}{}", week.suffix);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut *tx).await?;
    }
    Ok(())
}

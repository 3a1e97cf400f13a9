//! The SQL of `weeks`: the weekly partitions of the features' tables, made and dropped.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// A week, or a piece of one, that has partitions of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Week {
    /// The time inside the first id that belongs into it.
    pub starts: DateTime<Utc>,
    /// The time inside the first id that does not any more.
    pub ends: DateTime<Utc>,
    /// The end of the names of its partitions.
    pub suffix: String,
}

/// The weeks of a feature that end after `from`, oldest first.
pub async fn weeks_after(
    db: impl PgExecutor<'_>,
    feature: &str,
    from: DateTime<Utc>,
) -> sqlx::Result<Vec<Week>> {
    sqlx::query_as!(
        Week,
        "SELECT starts, ends, suffix FROM weeks WHERE feature = $1 AND ends > $2 ORDER BY starts",
        feature,
        from,
    )
    .fetch_all(db)
    .await
}

/// The weeks of a feature that ended by `upto`, oldest first.
pub async fn weeks_before(
    db: impl PgExecutor<'_>,
    feature: &str,
    upto: DateTime<Utc>,
) -> sqlx::Result<Vec<Week>> {
    sqlx::query_as!(
        Week,
        "SELECT starts, ends, suffix FROM weeks WHERE feature = $1 AND ends <= $2 ORDER BY starts",
        feature,
        upto,
    )
    .fetch_all(db)
    .await
}

/// Makes the partitions of a week, and moves into them what lies in the default partitions; returns how many rows.
pub async fn make_week(
    tx: &mut PgConnection,
    feature: &str,
    tables: &[&str],
    starts: DateTime<Utc>,
    ends: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT make_week($1, $2::text[], $3, $4) AS "moved!""#,
        feature,
        tables as &[&str],
        starts,
        ends,
    )
    .fetch_one(tx)
    .await
}

/// Drops the partitions of a week, whose tables the caller has locked, and keeps these rows of it (owner and id) in
/// the default partitions; returns how many.
pub async fn drop_week(
    tx: &mut PgConnection,
    feature: &str,
    tables: &[(&str, &str)],
    starts: DateTime<Utc>,
    kept: &[(i32, Uuid)],
) -> sqlx::Result<i64> {
    let (names, owners): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
    let (kept_owners, kept): (Vec<i32>, Vec<Uuid>) = kept.iter().copied().unzip();
    sqlx::query_scalar!(
        r#"SELECT drop_week($1, $2::text[], $3::text[], $4, $5, $6) AS "kept!""#,
        feature,
        &names as &[&str],
        &owners as &[&str],
        starts,
        &kept_owners,
        &kept,
    )
    .fetch_one(tx)
    .await
}

/// Notes what keeps a week whose time is over; says whether it is still there.
pub async fn note_week(
    db: impl PgExecutor<'_>,
    feature: &str,
    starts: DateTime<Utc>,
    note: &str,
) -> sqlx::Result<bool> {
    let noted = sqlx::query!(
        "UPDATE weeks SET state = 'leaving', note = $3, looked_at = now() WHERE feature = $1 AND starts = $2",
        feature,
        starts,
        note,
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected() > 0)
}

/// The transactions that hold a lock on one of these tables, or wait for one.
pub async fn lockers(db: impl PgExecutor<'_>, tables: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        SELECT DISTINCT virtualtransaction AS "transaction!"
        FROM pg_locks
        WHERE locktype = 'relation'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND relation IN (SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS t (name))
            AND virtualtransaction IS NOT NULL
        "#,
        tables,
    )
    .fetch_all(db)
    .await
}

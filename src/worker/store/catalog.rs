//! The SQL of `catalog`, the revision that every change of a definition counts up, and the end of `lanes`.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// The state of the catalog, as one statement sees it together with definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Catalogued {
    /// The revision: of the last change.
    pub revision: i64,
    /// The revision of the last change that removed a definition.
    pub removed: i64,
}

/// The catalog's revision.
pub async fn revision(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!("SELECT revision FROM catalog").fetch_one(db).await
}

/// Counts a change of a definition. Changes wait for each other here, so that a revision names one state.
pub async fn bump(tx: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!("UPDATE catalog SET revision = revision + 1 RETURNING revision").fetch_one(tx).await
}

/// Counts a change that removes a definition: every process asks which are left.
pub async fn bump_removed(tx: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "UPDATE catalog SET revision = revision + 1, removed = revision + 1 RETURNING revision"
    )
    .fetch_one(tx)
    .await
}

/// Holds other changes back until the transaction ends, without being one.
pub async fn lock_revision(tx: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT FROM catalog FOR UPDATE").execute(tx).await?;
    Ok(())
}

/// Removes a lane for ever: nothing of it is claimed again, and what lies in the engine's tables the maintenance
/// sweeps out.
pub async fn remove_lane(tx: &mut PgConnection, lane: i32) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM lanes WHERE id = $1", lane).execute(tx).await?;
    Ok(())
}

/// Removes what a lane was the lane of, and leaves the lane: what somebody who did not know yet puts into it is
/// found there.
pub async fn retire_lane(tx: &mut PgConnection, lane: i32) -> sqlx::Result<()> {
    sqlx::query!("UPDATE lanes SET removed_at = now() WHERE id = $1", lane).execute(tx).await?;
    Ok(())
}

/// The lanes of this kind that are retired, each with whether that was a day ago.
pub async fn retired_lanes(db: impl PgExecutor<'_>, kind: &str) -> sqlx::Result<Vec<(i32, bool)>> {
    let rows = sqlx::query!(
        r#"
        SELECT id, removed_at < now() - interval '1 day' AS "old!"
        FROM lanes
        WHERE kind = $1 AND removed_at IS NOT NULL
        ORDER BY id
        "#,
        kind,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.old)).collect())
}

//! The SQL that finds deliveries to be run again.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Which deliveries.
#[derive(Debug, Default, Clone)]
pub struct Which {
    /// Of the mapping of this name.
    pub mapping: Option<String>,
    /// Of the endpoint of this name.
    pub endpoint: Option<String>,
    /// Made at or after this moment.
    pub since: Option<DateTime<Utc>>,
    /// Made before this delivery.
    pub before: Option<Uuid>,
    /// Made after this delivery.
    pub after: Option<Uuid>,
}

/// Parked deliveries, oldest first, at most `limit`, locked. Those that were archived, or whose mapping was
/// deleted, are not among them.
pub async fn parked(
    tx: &mut PgConnection,
    store_id: i32,
    which: &Which,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT d.id
        FROM deliveries AS d
        JOIN mappings AS m ON m.id = d.mapping_id AND m.deleted_at IS NULL
        JOIN endpoints AS e ON e.id = m.endpoint_id
        WHERE d.store_id = $1
            AND d.parked
            AND d.archived_at IS NULL
            AND ($2::text IS NULL OR m.name = $2)
            AND ($3::text IS NULL OR e.name = $3)
            AND d.id >= coalesce(uuid_v7_floor($4), '00000000-0000-0000-0000-000000000000'::uuid)
            AND d.id < coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            AND d.id > coalesce($6, '00000000-0000-0000-0000-000000000000'::uuid)
        ORDER BY d.id
        LIMIT $7
        FOR UPDATE OF d SKIP LOCKED
        "#,
        store_id,
        which.mapping,
        which.endpoint,
        which.since,
        which.before,
        which.after,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// As [`parked`], for those that were delivered, and for both where `and_parked`.
pub async fn delivered(
    tx: &mut PgConnection,
    store_id: i32,
    which: &Which,
    and_parked: bool,
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        SELECT d.id
        FROM deliveries AS d
        JOIN mappings AS m ON m.id = d.mapping_id AND m.deleted_at IS NULL
        JOIN endpoints AS e ON e.id = m.endpoint_id
        WHERE d.store_id = $1
            AND (d.status = 'COMPLETE' OR ($8 AND d.parked AND d.archived_at IS NULL))
            AND ($2::text IS NULL OR m.name = $2)
            AND ($3::text IS NULL OR e.name = $3)
            AND d.id >= coalesce(uuid_v7_floor($4), '00000000-0000-0000-0000-000000000000'::uuid)
            AND d.id < coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            AND d.id > coalesce($6, '00000000-0000-0000-0000-000000000000'::uuid)
        ORDER BY d.id
        LIMIT $7
        FOR UPDATE OF d SKIP LOCKED
        "#,
        store_id,
        which.mapping,
        which.endpoint,
        which.since,
        which.before,
        which.after,
        limit,
        and_parked,
    )
    .fetch_all(tx)
    .await
}

/// Parks deliveries that were delivered, so that they can be run again as every parked one.
pub async fn park_delivered(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE deliveries
        SET status = 'ERROR', business_error = false, last_error = 'to be delivered again',
            parked_by = 'again'
        WHERE id = ANY ($1) AND status = 'COMPLETE'
        "#,
        ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

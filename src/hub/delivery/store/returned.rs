//! The SQL of deliveries that were claimed and did not run: they go back, or are held with their mapping.

use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// Notes which claim gave back which locked deliveries, and after how long they come again. A claim gives a
/// delivery back once, however often it says so.
pub async fn note(tx: &mut PgConnection, returned: &[(Uuid, Uuid, Duration)]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = returned.iter().map(|r| r.0).collect();
    let leases: Vec<Uuid> = returned.iter().map(|r| r.1).collect();
    let delays: Vec<f64> = returned.iter().map(|r| r.2.as_secs_f64()).collect();
    sqlx::query!(
        r#"
        UPDATE deliveries AS d
        SET returned_by = r.lease,
            next_attempt_at = CASE WHEN r.delay > 0 THEN now() + make_interval(secs => r.delay) END
        FROM unnest($1::uuid[], $2::uuid[], $3::float8[]) AS r (id, lease, delay)
        WHERE d.id = r.id
        "#,
        &ids,
        &leases,
        &delays,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A mapping, locked against being switched or deleted.
#[derive(Debug)]
pub struct Mapping {
    /// The mapping.
    pub id: i32,
    /// The lane of its endpoint.
    pub endpoint_id: i32,
    /// Whether its deliveries run.
    pub enabled: bool,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// The mappings of these deliveries.
pub async fn mappings_of(tx: &mut PgConnection, deliveries: &[Uuid]) -> sqlx::Result<Vec<i32>> {
    sqlx::query_scalar!("SELECT DISTINCT mapping_id FROM deliveries WHERE id = ANY ($1)", deliveries)
        .fetch_all(tx)
        .await
}

/// Locks mappings as they are.
pub async fn lock_mappings(tx: &mut PgConnection, ids: &[i32]) -> sqlx::Result<Vec<Mapping>> {
    sqlx::query_as!(
        Mapping,
        r#"
        SELECT id, endpoint_id, enabled, deleted_at IS NOT NULL AS "deleted!"
        FROM mappings
        WHERE id = ANY ($1)
        ORDER BY id
        FOR SHARE
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Puts deliveries with the others of their mapping, which is switched off and locked.
pub async fn hold(tx: &mut PgConnection, held: &[(i32, Uuid)]) -> sqlx::Result<()> {
    let (mappings, ids): (Vec<i32>, Vec<Uuid>) = held.iter().copied().unzip();
    sqlx::query!(
        r#"
        INSERT INTO held_deliveries (mapping_id, delivery_id)
        SELECT mapping_id, id FROM unnest($1::int[], $2::uuid[]) AS h (mapping_id, id) ORDER BY id
        ON CONFLICT (delivery_id) DO NOTHING
        "#,
        &mappings,
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

//! The SQL of what people decide about deliveries: run again, or not wanted any more.

use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// What a retry by hand did.
#[derive(Debug, Default)]
pub struct Retried {
    /// How many deliveries it took effect on.
    pub count: usize,
    /// Lanes in which something became ready, to be rung after the commit.
    pub ready: Vec<i32>,
}

/// Runs parked deliveries of a store again.
pub async fn retry(tx: &mut PgConnection, store_id: i32, ids: &[Uuid]) -> sqlx::Result<Retried> {
    let lanes = sqlx::query_scalar!(
        r#"
        WITH again AS (
            UPDATE deliveries
            SET status = 'PENDING', finished_at = NULL, archived_at = NULL, retry_from = now()
            WHERE store_id = $1 AND id = ANY ($2) AND status = 'ERROR'
            RETURNING id, mapping_id
        )
        INSERT INTO dispatch (lane, rank, item)
        SELECT m.endpoint_id, 0, again.id
        FROM again
        JOIN mappings AS m ON m.id = again.mapping_id
        ORDER BY again.id
        RETURNING lane
        "#,
        store_id,
        ids,
    )
    .fetch_all(tx)
    .await?;
    let count = lanes.len();
    let mut ready = lanes;
    ready.sort_unstable();
    ready.dedup();
    Ok(Retried { count, ready })
}

/// Notes that parked deliveries of a store are not wanted any more; gives how many that was news for.
pub async fn archive(tx: &mut PgConnection, store_id: i32, ids: &[Uuid]) -> sqlx::Result<u64> {
    let archived = sqlx::query!(
        r#"
        UPDATE deliveries
        SET archived_at = now()
        WHERE store_id = $1 AND id = ANY ($2) AND status = 'ERROR' AND archived_at IS NULL
        "#,
        store_id,
        ids,
    )
    .execute(tx)
    .await?;
    Ok(archived.rows_affected())
}

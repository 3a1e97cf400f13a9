//! The SQL of deliveries that wait at an endpoint their mapping does not send to.

use super::mappings;
use crate::worker;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Moves what waits in a lane to where its mapping sends; returns the lanes in which something is ready now.
pub async fn redirect(tx: &mut PgConnection, lane: i32) -> sqlx::Result<Vec<i32>> {
    let mut ready = Vec::new();
    // What is promoted while this waits for it is seen by the next look.
    loop {
        let astray = moved_on(&mut *tx, lane).await?;
        if astray.is_empty() {
            return Ok(ready);
        }
        ready.extend(worker::store::redirect(&mut *tx, lane, &astray).await?);
    }
}

/// Parks what waits in a lane for mappings that were deleted.
pub async fn park(tx: &mut PgConnection, lane: i32) -> sqlx::Result<()> {
    let deleted = sqlx::query!(
        r#"
        SELECT DISTINCT m.store_id, m.id
        FROM (
            SELECT item FROM dispatch WHERE lane = $1
            UNION ALL
            SELECT item FROM scheduled WHERE lane = $1
        ) AS w
        JOIN deliveries AS d ON d.id = w.item AND d.status = 'PENDING'
        JOIN mappings AS m ON m.id = d.mapping_id AND m.deleted_at IS NOT NULL
        ORDER BY m.id
        "#,
        lane,
    )
    .fetch_all(&mut *tx)
    .await?;
    for mapping in deleted {
        mappings::park_waiting(&mut *tx, mapping.store_id, mapping.id).await?;
    }
    Ok(())
}

/// The deliveries in a lane whose mapping sends elsewhere by now, and where it sends.
async fn moved_on(tx: &mut PgConnection, lane: i32) -> sqlx::Result<Vec<(Uuid, i32)>> {
    let rows = sqlx::query!(
        r#"
        SELECT w.item AS "item!", m.endpoint_id
        FROM (
            SELECT item FROM dispatch WHERE lane = $1
            UNION ALL
            SELECT item FROM scheduled WHERE lane = $1
        ) AS w
        JOIN deliveries AS d ON d.id = w.item AND d.status = 'PENDING'
        JOIN mappings AS m ON m.id = d.mapping_id AND m.deleted_at IS NULL AND m.endpoint_id <> $1
        "#,
        lane,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.item, row.endpoint_id)).collect())
}

//! The SQL of `hub_descendants`: how many messages have come of each from outside.

use sqlx::postgres::PgConnection;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Counts messages that come of these roots; returns how many came of each before.
pub async fn count(tx: &mut PgConnection, more: &BTreeMap<Uuid, i64>) -> sqlx::Result<HashMap<Uuid, i64>> {
    // In one order everywhere, so that two transactions cannot wait for each other.
    let (roots, counts): (Vec<Uuid>, Vec<i64>) = more.iter().map(|(root, count)| (*root, *count)).unzip();
    let rows = sqlx::query!(
        r#"
        INSERT INTO hub_descendants AS d (root_id, count)
        SELECT root_id, count
        FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS i (root_id, count, place)
        ORDER BY place
        ON CONFLICT ON CONSTRAINT hub_descendants_pkey
            DO UPDATE SET count = d.count + excluded.count, last_at = now()
        RETURNING root_id, count
        "#,
        &roots,
        &counts,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.root_id, row.count - more[&row.root_id])).collect())
}

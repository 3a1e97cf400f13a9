//! The SQL that sends the deliveries which waited for their mapping to be switched on.

use crate::flow::store::lines;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Puts what a mapping holds where it is claimed, in its order; says whether there was anything.
pub async fn release(tx: &mut PgConnection, mapping_id: i32, lane: i32) -> sqlx::Result<bool> {
    let freed = sqlx::query!(
        r#"
        WITH freed AS (
            DELETE FROM held_deliveries WHERE mapping_id = $1 RETURNING delivery_id, seq
        )
        SELECT d.id, d.line
        FROM freed
        JOIN deliveries AS d ON d.id = freed.delivery_id
        WHERE d.status = 'PENDING'
        ORDER BY freed.seq
        "#,
        mapping_id,
    )
    .fetch_all(&mut *tx)
    .await?;
    let freed: Vec<(Uuid, Option<[u8; 32]>)> = freed
        .into_iter()
        .map(|row| (row.id, row.line.and_then(|line| <[u8; 32]>::try_from(line).ok())))
        .collect();
    let lines: Vec<_> = freed.iter().filter_map(|(id, line)| Some((mapping_id, (*line)?, *id))).collect();
    let heads = lines::join_all(&mut *tx, &lines).await?;
    let (waits, ready): (Vec<_>, Vec<_>) =
        freed.into_iter().partition(|(id, line)| line.is_some() && !heads.contains(id));
    let ready: Vec<Uuid> = ready.into_iter().map(|(id, _)| id).collect();
    let waiting: Vec<Uuid> = waits.iter().map(|(id, _)| *id).collect();
    let behind: Vec<Vec<u8>> = waits.iter().filter_map(|(_, line)| Some(line.as_ref()?.to_vec())).collect();
    sqlx::query!(
        r#"
        WITH ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT $2, 0, id FROM unnest($3::uuid[]) WITH ORDINALITY AS r (id, place) ORDER BY place
        )
        INSERT INTO line_waits (series, line, item)
        SELECT $1, line, id FROM unnest($4::uuid[], $5::bytea[]) WITH ORDINALITY AS w (id, line, place) ORDER BY place
        "#,
        mapping_id,
        lane,
        &ready,
        &waiting,
        &behind,
    )
    .execute(tx)
    .await?;
    Ok(!ready.is_empty())
}

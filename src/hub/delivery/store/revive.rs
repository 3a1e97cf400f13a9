//! The SQL of deliveries that people run again.

use super::returned;
use crate::flow::store::lines;
use crate::worker;
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

/// Runs deliveries of a store again: parked ones, and those that wait for their time, which are due at once. Their
/// attempts count from the start, and their age from now. One of a mapping that is switched off is held; one of a
/// line joins it again; so does one that waits nowhere. What is not there, runs, waits for others or has ended otherwise is left as it is.
pub async fn retry(tx: &mut PgConnection, store_id: i32, ids: &[Uuid]) -> sqlx::Result<Retried> {
    // In the order of locks: who deletes a mapping has that, and goes for its deliveries.
    let of = returned::mappings_of(&mut *tx, ids).await?;
    let mappings = returned::lock_mappings(&mut *tx, &of).await?;
    let found = sqlx::query!(
        r#"
        SELECT id, mapping_id, line, coalesce(parked, false) AS "parked!"
        FROM deliveries
        WHERE store_id = $1 AND id = ANY ($2) AND status IN ('PENDING', 'ERROR')
        ORDER BY id
        FOR UPDATE
        "#,
        store_id,
        ids,
    )
    .fetch_all(&mut *tx)
    .await?;
    let waiting: Vec<Uuid> = found.iter().filter(|row| !row.parked).map(|row| row.id).collect();
    let hurried = worker::store::hurry(&mut *tx, &waiting).await?;
    let mut again: Vec<Uuid> = hurried.iter().map(|(_, id)| *id).collect();
    let others: Vec<Uuid> = waiting.iter().filter(|id| !again.contains(id)).copied().collect();
    let lost = nowhere(&mut *tx, &others).await?;
    let mut ready: Vec<i32> = hurried.into_iter().map(|(lane, _)| lane).collect();
    let (mut held, mut dispatched) = (Vec::new(), Vec::new());
    for row in found.into_iter().filter(|row| row.parked || lost.contains(&row.id)) {
        let Some(mapping) = mappings.iter().find(|mapping| mapping.id == row.mapping_id && !mapping.deleted)
        else {
            continue;
        };
        again.push(row.id);
        if !mapping.enabled {
            held.push((mapping.id, row.id));
            continue;
        }
        let first = match row.line {
            Some(line) => {
                lines::join(&mut *tx, &lines::Place { series: mapping.id, line, item: row.id }).await?
            }
            None => true,
        };
        if first {
            dispatched.push((mapping.endpoint_id, row.id));
            ready.push(mapping.endpoint_id);
        }
    }
    returned::hold(&mut *tx, &held).await?;
    dispatch(&mut *tx, &dispatched).await?;
    reopen(tx, &again).await?;
    ready.sort_unstable();
    ready.dedup();
    Ok(Retried { count: again.len(), ready })
}

/// Those of these deliveries, PENDING and locked, that nobody would ever claim. There must never be one.
async fn nowhere(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        r#"
        SELECT i.id AS "id!"
        FROM unnest($1::uuid[]) AS i (id)
        WHERE NOT EXISTS (SELECT FROM unfinished_deliveries AS u WHERE u.id = i.id)
        "#,
        ids,
    )
    .fetch_all(tx)
    .await
}

async fn dispatch(tx: &mut PgConnection, dispatched: &[(i32, Uuid)]) -> sqlx::Result<()> {
    let (lanes, ids): (Vec<i32>, Vec<Uuid>) = dispatched.iter().copied().unzip();
    sqlx::query!(
        r#"
        INSERT INTO dispatch (lane, rank, item)
        SELECT lane, 0, id FROM unnest($1::int[], $2::uuid[]) AS d (lane, id) ORDER BY id
        "#,
        &lanes,
        &ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn reopen(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE deliveries
        SET status = 'PENDING', finished_at = NULL, archived_at = NULL, next_attempt_at = NULL,
            parked_by = NULL, retry_from = now(),
            -- An endpoint that has taken it and works on it is asked on, not asked anew.
            continue_url = CASE WHEN status = 'PENDING' THEN continue_url END
        WHERE id = ANY ($1)
        "#,
        ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

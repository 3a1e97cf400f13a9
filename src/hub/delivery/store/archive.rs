//! The SQL of a delivery that is not wanted any more: parked, or taken from where it waits.

use super::listing::{self, Standing};
use crate::flow::store::lines::{self, Place};
use crate::worker::store as engine;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// How often a delivery is looked for that is on its way from one place to another.
const LOOKS: usize = 3;

/// What became of a delivery that was to be archived.
#[derive(Debug)]
pub enum Archived {
    /// It is archived; something became ready in these lanes.
    Done(Vec<i32>),
    /// An attempt runs.
    UnderWay,
    /// It has ended, and is not parked.
    Ended,
}

/// Notes that a delivery is not wanted any more, which is locked with its mapping. One that waits, for its time, its
/// turn or a switch, is parked at that, and makes way for who stands behind it.
pub async fn archive(tx: &mut PgConnection, id: Uuid, standing: &Standing) -> sqlx::Result<Archived> {
    match standing.status.as_str() {
        "ERROR" => {}
        "PENDING" if take(&mut *tx, id, standing).await? => {}
        "PENDING" => return Ok(Archived::UnderWay),
        _ => return Ok(Archived::Ended),
    }
    sqlx::query!(
        r#"
        UPDATE deliveries
        SET status = 'ERROR', archived_at = coalesce(archived_at, now()), finished_at = coalesce(finished_at, now()),
            next_attempt_at = NULL, last_error = coalesce(last_error, 'archived before it was delivered'),
            parked_by = coalesce(parked_by, 'archived')
        WHERE id = $1
        "#,
        id,
    )
    .execute(&mut *tx)
    .await?;
    let Some(line) = standing.line.clone() else { return Ok(Archived::Done(Vec::new())) };
    let place = Place { series: standing.mapping_id, line, item: id };
    Ok(Archived::Done(lines::leave(tx, &[place]).await?))
}

/// Takes a delivery from where it waits, so that nobody claims it; returns whether it waited.
async fn take(tx: &mut PgConnection, id: Uuid, standing: &Standing) -> sqlx::Result<bool> {
    // In the order of locks: who leaves the line calls the next from where it waits.
    lines::lock(&mut *tx, standing.mapping_id, standing.line.as_deref()).await?;
    for _ in 0..LOOKS {
        let waiting: Vec<(i32, Uuid)> =
            engine::lanes_of(&mut *tx, id).await?.into_iter().map(|lane| (lane, id)).collect();
        if !engine::withdraw(&mut *tx, &waiting).await?.is_empty() {
            return Ok(true);
        }
        let held = sqlx::query!("DELETE FROM held_deliveries WHERE delivery_id = $1", id);
        if held.execute(&mut *tx).await?.rows_affected() > 0 || lines::withdraw(&mut *tx, id).await? {
            return Ok(true);
        }
        if listing::is_under_way(&mut *tx, standing.store_id, id).await? {
            return Ok(false);
        }
        // It was promoted or claimed between two looks: the next one sees where it is.
    }
    Ok(false)
}

//! Pushes of schedules into queues whose messages are unique.

use crate::error::is_held;
use crate::queues::store::identified::be_patient;
use crate::queues::store::schedules::{self, Judged};
use sqlx::postgres::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// How long a value is waited for that another transaction is taking: all other schedules wait with it.
const PATIENCE: Duration = Duration::from_millis(50);

/// Pushes the message of each of these schedules, with this id, if messages of its queue are unique. Returns what became of
/// them, and the schedules whose values other transactions are taking that have not ended: those pushed nothing.
///
/// # Errors
/// The database's.
pub(super) async fn push(
    tx: &mut PgConnection,
    pushes: &[(i32, Uuid)],
) -> sqlx::Result<(Vec<Judged>, Vec<i32>)> {
    if let Some(judged) = attempt(&mut *tx, pushes).await? {
        return Ok((judged, Vec::new()));
    }
    let (mut judged, mut held) = (Vec::new(), Vec::new());
    for one in pushes {
        match attempt(&mut *tx, std::slice::from_ref(one)).await? {
            Some(more) => judged.extend(more),
            None => held.push(one.0),
        }
    }
    Ok((judged, held))
}

/// Pushes all of them; `None`, and nothing is done, if a value of theirs is being taken.
async fn attempt(tx: &mut PgConnection, pushes: &[(i32, Uuid)]) -> sqlx::Result<Option<Vec<Judged>>> {
    sqlx::query!("SAVEPOINT pushes").execute(&mut *tx).await?;
    be_patient(&mut *tx, PATIENCE).await?;
    match schedules::push_unique(&mut *tx, pushes).await {
        Ok(judged) => {
            sqlx::query!("RELEASE SAVEPOINT pushes").execute(tx).await?;
            Ok(Some(judged))
        }
        Err(error) if is_held(&error) => {
            sqlx::query!("ROLLBACK TO SAVEPOINT pushes").execute(tx).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

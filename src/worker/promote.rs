//! Moves items whose time has come to where they are claimed.

use super::store;
use super::wake::Wake;
use crate::db::{Database, bounded};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The most items that are promoted at once.
const BATCH: i64 = 1000;
/// How soon to try again when the database is away, and when somebody else holds all that is due.
const AGAIN: Duration = Duration::from_millis(250);
/// How often the loop says that it goes round while nothing is due.
const REST: Duration = Duration::from_millis(2500);

/// Promotes until `stop`.
pub(super) async fn run(db: Database, wake: &Wake, stop: &CancellationToken, beat: impl Fn() + Send + Sync) {
    while !stop.is_cancelled() {
        let now = Instant::now();
        let rest = match wake.due() {
            Some(at) if at <= now => match promote(&db, wake).await {
                Ok(()) => {
                    beat();
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot promote what is due; trying again");
                    wake.due_after(AGAIN);
                    AGAIN
                }
            },
            due => {
                beat();
                due.map_or(REST, |at| REST.min(at - now))
            }
        };
        if !rest.is_zero() {
            stop.run_until_cancelled(tokio::time::timeout(rest, wake.sooner())).await;
        }
    }
}

/// Promotes a batch, and finds out when the next is due.
async fn promote(db: &Database, wake: &Wake) -> sqlx::Result<()> {
    wake.take_due();
    let moved = bounded(store::promote(&db.worker, BATCH)).await?;
    let count = i64::try_from(moved.len()).unwrap_or(i64::MAX);
    for (lane, rank) in moved {
        wake.ready(lane, rank);
    }
    if count >= BATCH {
        wake.due_after(Duration::ZERO);
        return Ok(());
    }
    let Some(seconds) = bounded(store::next_due(&db.worker)).await? else { return Ok(()) };
    let after = match Duration::try_from_secs_f64(seconds) {
        // Not a moment too early: the database's clock has microseconds.
        Ok(after) if !after.is_zero() => after.saturating_add(Duration::from_millis(1)),
        _ if count == 0 => AGAIN,
        _ => Duration::ZERO,
    };
    wake.due_after(after);
    Ok(())
}

//! Gives back what dead workers held, so that it runs again.

use super::Claim;
use super::desk::Desk;
use super::store::{self, Dead};
use crate::db;
use crate::worker::wake::Wake;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// The most leases in one transaction.
const BATCH: i64 = 50;

/// Ends the leases that outlived their holders; gives how many items went back or ended.
///
/// The lease rows are locked first. What has already ended is looked for by the next statements, whose
/// snapshots are newer than the locks: an end that was written while this waited is seen, and one that comes
/// after finds no lease.
pub(super) async fn reclaim(pool: &PgPool, desks: &[Arc<dyn Desk>], wake: &Wake) -> sqlx::Result<usize> {
    let mut total = 0;
    loop {
        let desks = desks.to_vec();
        let (leases, written, again) = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move {
                let dead = store::lock_dead(tx, BATCH).await?;
                let found = dead.iter().map(|dead| dead.claim.lease).collect::<HashSet<Uuid>>().len();
                let mut ended: HashSet<Uuid> = HashSet::new();
                let mut by_lane: HashMap<i32, Vec<Claim>> = HashMap::new();
                for Dead { claim, lane_exists } in dead {
                    let ours = desks.iter().any(|desk| desk.owns(claim.lane));
                    // A lane that is gone was a deleted queue's: its leases just end. One that is there, but
                    // nobody's here, waits for a process that knows it.
                    if ours || !lane_exists {
                        ended.insert(claim.lease);
                    }
                    if ours {
                        by_lane.entry(claim.lane).or_default().push(claim);
                    }
                }
                let (mut written, mut again) = (0, Vec::new());
                for (lane, claims) in by_lane {
                    let Some(desk) = desks.iter().find(|desk| desk.owns(lane)) else { continue };
                    let settled = desk.reclaim(tx, claims).await?;
                    written += settled.written;
                    again.extend(settled.again);
                }
                store::put_back(tx, &again).await?;
                store::fence(tx, &ended.into_iter().collect::<Vec<Uuid>>(), &[]).await?;
                store::bury(tx).await?;
                Ok((found, written, again))
            })
        })
        .await?;
        if written > 0 {
            tracing::warn!(leases, items = written, again = again.len(), "took back what lost workers held");
        }
        for again in again {
            if again.after.is_zero() {
                wake.ready(again.lane, again.rank);
            } else {
                wake.due_after(again.after);
            }
        }
        total += written;
        if leases < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            return Ok(total);
        }
    }
}

//! Gives back what dead workers held, so that it runs again.

use super::desk::Desk;
use super::store;
use super::{Claim, Settled};
use crate::db;
use crate::worker::wake::Wake;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// The most leases in one transaction.
const BATCH: i64 = 50;

/// Gives up silent workers, and ends the leases that outlived their holders; gives how many items went back or ended.
///
/// The lease rows are locked first. What has already ended is looked for by the next statements, whose
/// snapshots are newer than the locks: an end that was written while this waited is seen, and one that comes
/// after finds no lease.
pub(super) async fn reclaim(pool: &PgPool, desks: &[Arc<dyn Desk>], wake: &Wake) -> sqlx::Result<usize> {
    store::give_up(pool).await?;
    let mut total = 0;
    loop {
        let desks = desks.to_vec();
        let lanes: Vec<i32> = desks.iter().flat_map(|desk| desk.all()).collect();
        let (leases, settled) = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move {
                let dead = store::lock_dead(&mut *tx, &lanes, BATCH).await?;
                let mut leases: HashSet<Uuid> = HashSet::new();
                let mut by_lane: HashMap<i32, Vec<Claim>> = HashMap::new();
                for claim in dead {
                    leases.insert(claim.lease);
                    by_lane.entry(claim.lane).or_default().push(claim);
                }
                let mut all = Settled::default();
                for (lane, claims) in by_lane {
                    // A lane of nobody is gone, with the queue it was: its leases just end.
                    let Some(desk) = desks.iter().find(|desk| desk.owns(lane)) else { continue };
                    let settled = desk.reclaim(tx, claims).await?;
                    all.written += settled.written;
                    all.again.extend(settled.again);
                    all.woken.extend(settled.woken);
                    all.soonest = [all.soonest, settled.soonest].into_iter().flatten().min();
                }
                store::put_back(tx, &all.again).await?;
                let leases: Vec<Uuid> = leases.into_iter().collect();
                store::fence(&mut *tx, &leases, &[]).await?;
                store::bury(tx).await?;
                Ok((leases.len(), all))
            })
        })
        .await?;
        if settled.written > 0 {
            let again = settled.again.len();
            tracing::warn!(leases, items = settled.written, again, "took back what lost workers held");
        }
        wake.settled(&settled);
        total += settled.written;
        if leases < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            return Ok(total);
        }
    }
}

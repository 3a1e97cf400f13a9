//! Gives back what this process holds when it is told to stop: at once, and no attempt is counted.

use super::desk::Desk;
use super::store;
use super::{Claim, Lines};
use crate::db;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Gives back every item of the worker's leases that has not ended, one lease in a transaction; returns how many.
///
/// As in a reclaim the lease is locked first, and what has ended is looked for after that. It covers what runs and
/// cannot be stopped, what is not even loaded, and claims whose answers were lost.
pub(super) async fn give_back(pool: &PgPool, desks: &[Arc<dyn Desk>], worker: Uuid) -> sqlx::Result<usize> {
    let mut total = 0;
    loop {
        let desks = desks.to_vec();
        let lease = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move {
                let claims = store::lock_of(&mut *tx, worker).await?;
                let leases: HashSet<Uuid> = claims.iter().map(|claim| claim.lease).collect();
                let mut by_lane: HashMap<i32, Vec<Claim>> = HashMap::new();
                for claim in claims {
                    by_lane.entry(claim.lane).or_default().push(claim);
                }
                let (mut written, mut lines) = (0, Lines::default());
                for (lane, claims) in by_lane {
                    // A lane of nobody is gone, with the queue it was: its lease just ends.
                    let Some(desk) = desks.iter().find(|desk| desk.owns(lane)) else { continue };
                    let settled = desk.give_back(&mut *tx, claims).await?;
                    store::put_back(&mut *tx, &settled.again).await?;
                    written += settled.written;
                    lines.extend(settled.lines);
                }
                let leases: Vec<Uuid> = leases.into_iter().collect();
                store::fence(tx, &leases, &[]).await?;
                Ok((!leases.is_empty()).then_some((written, lines)))
            })
        });
        match lease.await? {
            Some((written, lines)) => {
                total += written;
                lines.write();
            }
            None => return Ok(total),
        }
    }
}

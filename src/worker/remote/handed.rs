//! What was handed out, until the answer that carries it is on its way.

use super::Remote;
use crate::db;
use crate::worker::store;
use crate::worker::wake::Wake;
use crate::worker::{Again, Claim};
use sqlx::postgres::PgPool;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// What claims for a waiting room are made with, and given back.
pub(super) struct Means<R: Remote> {
    pub(super) remote: Arc<R>,
    pub(super) pool: PgPool,
    pub(super) wake: Arc<Wake>,
    /// Gives back what nobody received.
    pub(super) tasks: TaskTracker,
}

/// Claimed items. Dropped before they are kept, they go back at once, as if they had not been claimed: who asked for
/// them has hung up.
pub struct Handed<R: Remote> {
    items: Vec<(Claim, R::Item)>,
    /// Until when they are surely still claimed, by this process's own clock.
    until: Instant,
    means: Arc<Means<R>>,
}

impl<R: Remote> Handed<R> {
    pub(super) fn new(items: Vec<(Claim, R::Item)>, until: Instant, means: Arc<Means<R>>) -> Self {
        Self { items, until, means }
    }

    /// What is in it.
    pub fn items(&self) -> &[(Claim, R::Item)] {
        &self.items
    }

    /// Takes everything out: from here on it is lost with its worker, and found when the lease ends. Where this process
    /// has stood still for as long as a lease, there is nothing: what was claimed is, or soon will be, another's.
    pub fn keep(mut self) -> Vec<(Claim, R::Item)> {
        if Instant::now() >= self.until {
            return Vec::new();
        }
        std::mem::take(&mut self.items)
    }
}

impl<R: Remote> Drop for Handed<R> {
    fn drop(&mut self) {
        if !self.items.is_empty() {
            let claims = self.items.drain(..).map(|(claim, _)| claim).collect();
            self.means.tasks.spawn(give_back(Arc::clone(&self.means), claims));
        }
    }
}

/// Gives back what nobody received. What has ended meanwhile, or was taken back, stays as it is.
async fn give_back<R: Remote>(means: Arc<Means<R>>, claims: Vec<Claim>) {
    let remote = Arc::clone(&means.remote);
    let given_back = db::transaction::<_, sqlx::Error, _>(&means.pool, move |tx| {
        Box::pin(async move {
            let leases: Vec<Uuid> = claims.iter().map(|claim| claim.lease).collect();
            let ours: HashSet<Uuid> = store::fence(&mut *tx, &leases, &[]).await?.into_iter().collect();
            let claims: Vec<Claim> = claims.into_iter().filter(|claim| ours.contains(&claim.lease)).collect();
            remote.untake(&mut *tx, &claims).await?;
            let again: Vec<Again> =
                claims.into_iter().map(|claim| claim.not_counted(Duration::ZERO)).collect();
            store::put_back(tx, &again).await?;
            Ok(again)
        })
    });
    match given_back.await {
        Ok(again) => again.iter().for_each(|again| means.wake.ready(again.lane, again.rank)),
        Err(error) => tracing::warn!(%error, "cannot give back what nobody received; its leases will end"),
    }
}

//! What the attempts of one claim ask before they start: is it still ours?
//!
//! The registration's time is one half of the answer (`tenure.rs`). The other half is that the claim exists: its commit
//! does not wait for the disk, so a crash of the database may undo it, and another process may then claim the same work
//! and end it. Who starts at once is through before anything of that can have happened. Who starts later than [`SOON`]
//! after the claim has the database confirm it first, once for everything that the claim took. The confirmation waits for
//! the disk, and with it for the claim, which was written before: what is confirmed, no crash undoes any more.

use super::store;
use super::tenure::Tenure;
use crate::db::bounded;
use crate::db::by_id::HashSet;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A claim is not asked for within this time: a database needs longer to come back from a crash, have the same work
/// claimed by another process, and see it ended.
const SOON: Duration = Duration::from_millis(200);

/// What one claim took, and for how long it is ours. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Holding(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    tenure: Tenure,
    db: PgPool,
    /// The moment before the database was asked for the claim.
    asked: Instant,
    leases: Vec<Uuid>,
    /// Those of the leases that the database has confirmed, once it was asked.
    confirmed: OnceCell<HashSet<Uuid>>,
    /// Cancelled once it did not confirm all of them.
    undone: CancellationToken,
}

/// One item of a claim, as its attempt asks about it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hold {
    taken: Arc<Taken>,
    lease: Uuid,
}

impl Holding {
    /// What was claimed within this tenure, when the database was asked at this moment.
    pub(super) fn new(tenure: Tenure, db: PgPool, asked: Instant, leases: HashSet<Uuid>) -> Self {
        let (confirmed, undone) = (OnceCell::new(), CancellationToken::new());
        let leases = leases.into_iter().collect();
        Self(Arc::new(Taken { tenure, db, asked, leases, confirmed, undone }))
    }

    /// The tenure of the registration that claimed it.
    pub(super) fn tenure(&self) -> &Tenure {
        &self.0.tenure
    }

    /// What an attempt under this lease asks.
    pub fn of(&self, lease: Uuid) -> Hold {
        Hold { taken: Arc::clone(&self.0), lease }
    }
}

impl Hold {
    /// Returns at once while what was claimed is ours: to be awaited right before each start. When its time is over
    /// it returns only after a heartbeat that was on its way has made it ours again; else never, and the attempt that
    /// waits is stopped, its lease left to the reclaim. A start that comes late waits for the claim's confirmation, and
    /// when there is none, the attempt is stopped.
    pub async fn holds(&self) {
        loop {
            self.taken.tenure.holds().await;
            if self.taken.is_doubtful() {
                self.taken.confirm().await;
                continue;
            }
            if self.is_undone() {
                std::future::pending::<()>().await;
            }
            return;
        }
    }

    /// [`Self::holds`] for who cannot await: says at any moment whether it may start.
    fn may_start(&self) -> bool {
        !self.taken.tenure.is_over() && !self.taken.is_doubtful() && !self.is_undone()
    }

    /// Sends by `send`, which is given what says at any moment whether it may still begin, and returns `None` when that
    /// said no and nothing was sent: then it is tried again as soon as [`Self::holds`] returns. While it finds a name, a
    /// connection and a handshake, for which it may need any time, the claim is confirmed.
    pub async fn send<T, S>(&self, send: impl Fn(Box<dyn Fn() -> bool + Send + Sync>) -> S) -> T
    where
        S: Future<Output = Option<T>>,
    {
        loop {
            self.holds().await;
            let began = Arc::new(AtomicBool::new(false));
            let may_begin = {
                let (hold, began) = (self.clone(), Arc::clone(&began));
                move || {
                    let may_start = hold.may_start();
                    began.fetch_or(may_start, Ordering::AcqRel);
                    may_start
                }
            };
            let mut sending = std::pin::pin!(send(Box::new(may_begin)));
            let answer = tokio::select! {
                biased;
                answer = &mut sending => answer,
                () = self.taken.confirm_before_it_is_late(&began) => sending.await,
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Returns when the database did not confirm its claim: a crash has undone it.
    pub(super) async fn undone(&self) {
        self.taken.undone.cancelled().await;
        if !self.is_undone() {
            std::future::pending::<()>().await;
        }
    }

    fn is_undone(&self) -> bool {
        self.taken.confirmed.get().is_some_and(|confirmed| !confirmed.contains(&self.lease))
    }
}

impl Taken {
    /// Whether a start would be late, and the claim is not confirmed.
    fn is_doubtful(&self) -> bool {
        self.asked.elapsed() >= SOON && !self.confirmed.initialized()
    }

    /// Asks the database, once over all who wait for it, and however long it is unreachable.
    async fn confirm(&self) {
        let confirmed = self.confirmed.get_or_init(async || {
            let mut pause = Duration::from_millis(50);
            loop {
                match bounded(store::confirm(&self.db, &self.leases)).await {
                    Ok(leases) => return leases.into_iter().collect(),
                    Err(error) => {
                        tracing::warn!(%error, "cannot have a claim confirmed; trying again");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                }
            }
        });
        if confirmed.await.len() < self.leases.len() && !self.undone.is_cancelled() {
            tracing::warn!(
                "the database does not know a claim: a crash has undone it, and what it took is not started"
            );
            self.undone.cancel();
        }
    }

    /// Has it confirmed when what waits to begin has not begun while it would not be late; returns when that is done, or
    /// need not be.
    async fn confirm_before_it_is_late(&self, began: &AtomicBool) {
        if self.confirmed.initialized() {
            return;
        }
        tokio::time::sleep_until((self.asked + SOON).into()).await;
        if !began.load(Ordering::Acquire) {
            self.confirm().await;
        }
    }
}

//! Messages that wait to be routed, as the engine sees them: those that SQL published, and those with a delay.

use super::decide;
use super::store::pending;
use crate::db::{Database, bounded};
use crate::hub::definitions::catalog::Catalog;
use crate::worker::{Claim, Consumer, Ended, Holding, Lane, Run, Settled};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use uuid::Uuid;

/// How many messages are routed at once, in one process.
const CONCURRENCY: usize = 500;

/// The consumer of messages that are pending.
pub struct Router {
    db: Database,
    catalog: Arc<Catalog>,
    lane: i32,
}

/// What is done about a message when its turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is routed, in the transaction that ends its claim; about how many bytes it is.
    Route(usize),
    /// It cannot be, and is kept aside.
    Park,
}

impl Router {
    /// A consumer that routes by this catalog.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn new(db: Database, catalog: Arc<Catalog>) -> sqlx::Result<Self> {
        let lane = pending::lane(&db.worker).await?;
        Ok(Self { db, catalog, lane })
    }
}

impl Consumer for Router {
    type Outcome = Turn;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.catalog.refresh(&self.db.worker, revision).await
    }

    fn lanes(&self) -> Vec<Lane> {
        self.lane(self.lane).into_iter().collect()
    }

    fn lane(&self, id: i32) -> Option<Lane> {
        (id == self.lane).then_some(Lane { id, concurrency: CONCURRENCY, yields: false })
    }

    fn owns(&self, lane: i32) -> bool {
        lane == self.lane
    }

    fn all(&self) -> Vec<i32> {
        vec![self.lane]
    }

    async fn load(&self, claims: Vec<Claim>, _holding: &Holding) -> sqlx::Result<Vec<Run<Turn>>> {
        // A message is routed by what is defined now, not when it was published.
        let ids: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
        let (revision, sizes) = bounded(pending::sizes(&self.db.worker, &ids)).await?;
        if revision > self.catalog.revision() {
            self.refresh(revision).await?;
        }
        let run = |claim: Claim| {
            let size = sizes.get(&claim.item).copied().unwrap_or(0);
            Run { claim, attempt: Box::pin(std::future::ready(Turn::Route(size))) as _ }
        };
        Ok(claims.into_iter().map(run).collect())
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Turn>]) -> sqlx::Result<Settled> {
        let (mut route, mut park) = (Vec::new(), Vec::new());
        for end in ended {
            match end.outcome {
                Some(Turn::Route(_)) => route.push(end.claim.item),
                Some(Turn::Park) => park.push(end.claim.item),
                None => {}
            }
        }
        let mut settled = Settled::default();
        if !park.is_empty() {
            let parked = pending::park(&mut *tx, &park, "the database refuses to route it").await?;
            settled.written += usize::try_from(parked).unwrap_or(usize::MAX);
        }
        if !route.is_empty() {
            let accepted = decide::route_pending(tx, &self.catalog, &self.db.ids, &route).await?;
            settled.written += accepted.states.len();
            settled.woken = accepted.ready;
            settled.soonest = accepted.soonest;
        }
        Ok(settled)
    }

    fn weight(turn: &Turn) -> usize {
        match turn {
            Turn::Route(size) => *size,
            Turn::Park => 0,
        }
    }

    fn refused(&self, _turn: Option<&Turn>, _error: &sqlx::Error) -> Turn {
        Turn::Park
    }

    fn panicked(&self, _message: &str) -> Turn {
        Turn::Park
    }

    fn given_back(&self) -> Turn {
        Turn::Route(0)
    }

    async fn lost(&self, _tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Turn>>> {
        // Whether it is still pending, the routing looks itself.
        Ok(claims.into_iter().map(|claim| Ended { claim, outcome: Some(Turn::Route(0)) }).collect())
    }

    async fn written(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Turn>],
    ) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
        // A message is routed once, whoever does it.
        let ids: Vec<Uuid> = ended.iter().map(|end| end.claim.item).collect();
        let pending = pending::among(tx, &ids).await?;
        let done = ended.iter().filter(|end| !pending.contains(&end.claim.item));
        Ok(done.map(|end| (end.claim.lease, end.claim.item)).collect())
    }
}

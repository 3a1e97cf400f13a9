//! The queues as the engine sees them: which lanes to claim, how a message runs, how its end is written.

use super::catalog::{Catalog, Queue};
use super::metrics::Tally;
use super::options::Options;
use super::outcome::{self, End, Next, Outcome};
use super::runners::{Runners, unrunnable};
use super::store::ends::{self, Failure};
use crate::db::{Database, bounded};
use crate::worker::{Again, Claim, Consumer, Ended, Lane, Run, Settled};
use sqlx::postgres::PgConnection;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// The consumer of queue messages.
pub struct Messages {
    db: Database,
    catalog: Arc<Catalog>,
    runners: Arc<Runners>,
    /// This process's name, as the admin view shows it.
    worker: String,
}

impl Messages {
    /// A consumer that runs messages with `runners`, under this name.
    pub fn new(db: Database, catalog: Arc<Catalog>, runners: Arc<Runners>, worker: String) -> Self {
        Self { db, catalog, runners, worker }
    }
}

impl Consumer for Messages {
    type Outcome = Outcome;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.catalog.refresh(&self.db.worker, revision).await
    }

    fn lanes(&self) -> Vec<Lane> {
        let mut lanes = Vec::new();
        self.catalog.each(|queue| {
            if !queue.paused
                && let Some(concurrency) = self.runners.room(&queue.definition)
            {
                lanes.push(Lane { id: queue.id, concurrency, yields: false });
            }
        });
        lanes
    }

    fn owns(&self, lane: i32) -> bool {
        self.catalog.has(lane)
    }

    fn all(&self) -> Vec<i32> {
        let mut all = Vec::new();
        self.catalog.each(|queue| all.push(queue.id));
        all
    }

    async fn load(&self, claims: Vec<Claim>) -> sqlx::Result<Vec<Run<Outcome>>> {
        let (revision, loaded) = bounded(ends::load(&self.db.worker, &claims)).await?;
        // A message claimed after a change runs under what the change says.
        if revision > self.catalog.revision() {
            self.catalog.refresh(&self.db.worker, revision).await?;
        }
        let mut queues: HashMap<i32, Option<Arc<Queue>>> = HashMap::new();
        let mut claims: HashMap<Uuid, Claim> = claims.into_iter().map(|claim| (claim.item, claim)).collect();
        let mut runs = Vec::with_capacity(loaded.len());
        for message in loaded {
            let Some(claim) = claims.remove(&message.id) else { continue };
            let queue = queues.entry(claim.lane).or_insert_with(|| self.catalog.by_id(claim.lane));
            let attempt = match queue {
                Some(queue) => Arc::clone(&self.runners).attempt(Arc::clone(queue), &claim, message),
                // Deleted, or out of service here: the end is written like any other, so that nothing is lost.
                None => Box::pin(async { unrunnable().into() }),
            };
            runs.push(Run { claim, attempt });
        }
        Ok(runs)
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Outcome>]) -> sqlx::Result<Settled> {
        let mut finished = Vec::new();
        let mut failed = Vec::new();
        let mut tally = Tally::default();
        let now = self.db.ids.now();
        for end in ended {
            let Some(outcome) = &end.outcome else { continue };
            // Of a queue that was deleted since, or is out of service here, the defaults do.
            let queue = self.catalog.by_id(end.claim.lane);
            let options =
                queue.as_ref().map_or_else(Options::default, |queue| queue.definition.options.clone());
            let next = outcome::next(&outcome.end, end.claim.attempt, &options);
            if let Some(queue) = queue {
                let took = now.and_then(|now| (now - end.claim.claimed_at).to_std().ok()).unwrap_or_default();
                tally.attempt(&queue, &outcome.end, &next, took);
            }
            match next {
                Next::Complete(result) => finished.push((&end.claim, outcome, Ok(result))),
                Next::Error(error) => finished.push((&end.claim, outcome, Err(error))),
                Next::Again { error, after } => failed.push((&end.claim, outcome, error, after)),
            }
        }
        tally.count();
        let mut settled = Settled::default();
        let outcomes: Vec<ends::Outcome<'_>> = finished
            .iter()
            .map(|(claim, outcome, end)| ends::Outcome {
                claim,
                worker: outcome.worker.as_deref().unwrap_or(&self.worker),
                end: end.as_ref().copied().map_err(AsRef::as_ref),
                logs: outcome.logs.as_deref(),
            })
            .collect();
        if !outcomes.is_empty() {
            settled.written += usize::try_from(ends::end(&mut *tx, &outcomes).await?).unwrap_or(usize::MAX);
        }
        let failures: Vec<Failure<'_>> = failed
            .iter()
            .map(|(claim, outcome, error, _)| Failure {
                claim,
                worker: outcome.worker.as_deref().unwrap_or(&self.worker),
                error,
                logs: outcome.logs.as_deref(),
            })
            .collect();
        if !failures.is_empty() {
            let noted: HashSet<Uuid> = ends::fail(tx, &failures).await?.into_iter().collect();
            settled.written += noted.len();
            settled.again = failed
                .iter()
                .filter(|(claim, ..)| noted.contains(&claim.item))
                .map(|(claim, outcome, _, after)| Again {
                    lane: claim.lane,
                    rank: claim.rank,
                    item: claim.item,
                    attempt: claim.attempt - i16::from(matches!(outcome.end, End::NotStarted(_))),
                    after: *after,
                })
                .collect();
        }
        Ok(settled)
    }

    fn refused(&self, error: &sqlx::Error) -> Outcome {
        let why = match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            _ => "it cannot be written".to_owned(),
        };
        End::Fail(outcome::error("UnstorableResult", &format!("the database refuses this end: {why}"))).into()
    }

    fn panicked(&self, message: &str) -> Outcome {
        End::Reject(outcome::error("Panic", message)).into()
    }

    async fn lost(&self, tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Outcome>>> {
        let unfinished: HashSet<(Uuid, Uuid)> = ends::unfinished(tx, &claims).await?.into_iter().collect();
        Ok(claims
            .into_iter()
            .filter(|claim| unfinished.contains(&(claim.item, claim.lease)))
            .map(|claim| Ended { claim, outcome: Some(End::Lost.into()) })
            .collect())
    }
}

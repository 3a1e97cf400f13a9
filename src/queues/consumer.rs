//! The queues as the engine sees them: which lanes to claim, how a message runs, how its end is written.

use super::catalog::{Catalog, Queue};
use super::definition::Handler;
use super::failures::Told;
use super::metrics::Tally;
use super::outcome::{self, End, Next, Outcome};
use super::retry::Terms;
use super::runners::{Runners, unrunnable};
use super::store::ends::{self, Failure};
use crate::db::by_id::{HashMap, HashSet};
use crate::db::{Database, bounded};
use crate::worker::{Again, Claim, Consumer, Ended, Holding, Lane, Run, Settled};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
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

    /// The lane of a queue, unless it is paused, or its handler runs elsewhere.
    fn lane_of(&self, queue: &Queue) -> Option<Lane> {
        let concurrency = self.runners.room(queue).filter(|_| !queue.paused)?;
        let yields = matches!(queue.definition.handler, Some(Handler::Http { .. }));
        Some(Lane { id: queue.id, concurrency, yields })
    }
}

impl Messages {
    /// What decides about an end. What it ran under does, whatever became of the definition since; where nobody knows,
    /// the definition as it is now, and where the queue is gone or out of service here, the defaults.
    fn terms(&self, lane: i32, outcome: &Outcome) -> Terms {
        let now_said = || self.catalog.by_id(lane).map(|queue| queue.definition.options.terms.clone());
        outcome.terms.clone().or_else(now_said).unwrap_or_default()
    }

    /// For how long the messages of these ends have been tried, where that decides.
    async fn tried(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Outcome>],
        now: Option<DateTime<Utc>>,
    ) -> sqlx::Result<HashMap<Uuid, Duration>> {
        let decides = |end: &&&Ended<Outcome>| {
            let Ended { claim, outcome: Some(outcome) } = **end else { return false };
            outcome::may_be_too_old(&outcome.end, claim.attempt, &self.terms(claim.lane, outcome))
        };
        let claims: Vec<&Claim> = ended.iter().filter(decides).map(|end| &end.claim).collect();
        let Some(now) = now.filter(|_| !claims.is_empty()) else { return Ok(HashMap::default()) };
        let first = ends::first_tried(tx, &claims).await?;
        let tried = |claim: &Claim| now - first.get(&claim.item).copied().unwrap_or(claim.claimed_at);
        Ok(claims.iter().map(|claim| (claim.item, tried(claim).to_std().unwrap_or_default())).collect())
    }
}

impl Consumer for Messages {
    type Outcome = Outcome;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.catalog.refresh(&self.db.worker, revision).await?;
        Ok(())
    }

    fn lanes(&self) -> Vec<Lane> {
        let mut lanes = Vec::new();
        self.catalog.each(|queue| lanes.extend(self.lane_of(queue)));
        lanes
    }

    fn lane(&self, id: i32) -> Option<Lane> {
        self.catalog.by_id(id).and_then(|queue| self.lane_of(&queue))
    }

    fn owns(&self, lane: i32) -> bool {
        self.catalog.has(lane)
    }

    fn all(&self) -> Vec<i32> {
        let mut all = Vec::new();
        self.catalog.each(|queue| all.push(queue.id));
        all
    }

    async fn load(&self, claims: Vec<Claim>, holding: &Holding) -> sqlx::Result<Vec<Run<Outcome>>> {
        let (revision, loaded) = bounded(ends::load(&self.db.worker, &claims)).await?;
        // A message claimed after a change runs under what the change says.
        if revision > self.catalog.revision() {
            self.catalog.refresh(&self.db.worker, revision).await?;
        }
        let mut queues: HashMap<i32, Option<Arc<Queue>>> = HashMap::default();
        let mut claims: HashMap<Uuid, Claim> = claims.into_iter().map(|claim| (claim.item, claim)).collect();
        let mut runs = Vec::with_capacity(loaded.len());
        for message in loaded {
            let Some(claim) = claims.remove(&message.id) else { continue };
            let queue = queues.entry(claim.lane).or_insert_with(|| self.catalog.by_id(claim.lane));
            let attempt = match queue {
                Some(queue) => {
                    let hold = holding.of(claim.lease);
                    Arc::clone(&self.runners).attempt(Arc::clone(queue), &claim, message, hold)
                }
                // Deleted, or out of service here: the end is written like any other, so that nothing is lost.
                None => Box::pin(async { Outcome::from(unrunnable()) }),
            };
            runs.push(Run { claim, attempt });
        }
        Ok(runs)
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Outcome>]) -> sqlx::Result<Settled> {
        let mut finished = Vec::new();
        let mut failed = Vec::new();
        let mut told = Vec::new();
        let mut tally = Tally::default();
        let now = self.db.ids.now();
        let tried = self.tried(tx, ended, now).await?;
        let mut queues: HashMap<i32, Option<Arc<Queue>>> = HashMap::default();
        for end in ended {
            let Some(outcome) = &end.outcome else { continue };
            let lane = end.claim.lane;
            let queue = queues.entry(lane).or_insert_with(|| self.catalog.by_id(lane));
            let tried = tried.get(&end.claim.item).copied().unwrap_or_default();
            let next = outcome::next(&outcome.end, end.claim.attempt, &self.terms(lane, outcome), tried);
            let took = now.and_then(|now| (now - end.claim.claimed_at).to_std().ok()).unwrap_or_default();
            if let Some(queue) = queue.as_ref() {
                tally.attempt(queue, &outcome.end, &next, took);
            }
            let is_traced = self.runners.tracer.is_on();
            told.extend(Told::of(&end.claim, queue.as_ref(), (&outcome.end, &next), took, is_traced));
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
                ending: outcome.end.ending(),
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
                ending: outcome.end.ending(),
                error,
                logs: outcome.logs.as_deref(),
            })
            .collect();
        if !failures.is_empty() {
            let noted: HashSet<Uuid> = ends::fail(&mut *tx, &failures).await?.into_iter().collect();
            settled.written += noted.len();
            settled.again = failed
                .iter()
                .filter(|(claim, ..)| noted.contains(&claim.item))
                .map(|(claim, outcome, _, after)| Again {
                    lane: claim.lane,
                    rank: claim.rank,
                    item: claim.item,
                    attempt: claim.attempt - i16::from(!outcome.end.counts()),
                    after: *after,
                    traceable: claim.traceable && !outcome.end.counts(),
                })
                .collect();
        }
        if !told.is_empty() {
            // Of a message that was deleted there is no end to tell of.
            let claims: Vec<&Claim> = told.iter().map(|told| told.claim).collect();
            let mut origins = ends::origins(tx, &claims).await?;
            for told in told {
                if let Some(origin) = origins.remove(&told.claim.item) {
                    told.note(&mut settled.lines, origin, &self.runners.tracer);
                }
            }
        }
        Ok(settled)
    }

    fn weight(outcome: &Outcome) -> usize {
        outcome.end.weight() + outcome.logs.as_ref().map_or(0, |logs| logs.get().len())
    }

    fn refused(&self, outcome: Option<&Outcome>, error: &sqlx::Error) -> Outcome {
        let why = match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            _ => "it cannot be written".to_owned(),
        };
        let why = outcome::error("UnstorableResult", &format!("the database refuses this end: {why}"));
        Outcome {
            end: End::Refused(why),
            logs: None,
            worker: outcome.and_then(|outcome| outcome.worker.clone()),
            terms: outcome.and_then(|outcome| outcome.terms.clone()),
        }
    }

    fn panicked(&self, message: &str) -> Outcome {
        End::Reject(outcome::error("Panic", message)).into()
    }

    fn given_back(&self) -> Outcome {
        End::GivenBack.into()
    }

    async fn lost(&self, tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Outcome>>> {
        let unfinished: HashSet<(Uuid, Uuid)> = ends::unfinished(tx, &claims).await?.into_iter().collect();
        Ok(claims
            .into_iter()
            .filter(|claim| unfinished.contains(&(claim.item, claim.lease)))
            .map(|claim| Ended { claim, outcome: Some(End::Lost.into()) })
            .collect())
    }

    async fn written(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Outcome>],
    ) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
        let claims: Vec<_> =
            ended.iter().map(|end| (end.claim.lane, end.claim.item, end.claim.lease)).collect();
        let stored = ends::stored(tx, &claims).await?;
        let stored: HashMap<(Uuid, Uuid), _> =
            stored.into_iter().map(|stored| ((stored.lease, stored.id), stored)).collect();
        let key = |end: &Ended<Outcome>| (end.claim.lease, end.claim.item);
        let is_there = |end: &Ended<Outcome>| {
            stored.get(&key(end)).is_some_and(|row| end.outcome.as_ref().is_some_and(|said| said.end.is(row)))
        };
        Ok(ended.iter().filter(|end| is_there(end)).map(|end| key(end)).collect())
    }
}

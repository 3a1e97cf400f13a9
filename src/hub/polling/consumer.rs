//! The pollers as the engine sees them: a run reads and tells, its settlement says what follows.
//!
//! Every attempt at a run is an item of its own, named in its poller's row: an end is written by who finds its
//! item there, so once.

use super::pollers::Pollers;
use super::run::{self, Outcome};
use super::store::pollers::{self, Running};
use super::store::snapshots;
use super::tell::Teller;
use crate::db::{Database, bounded};
use crate::http::outbound::Outbound;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::notices::{self, Notice};
use crate::seal::Sealer;
use crate::traces::{Kind, Span, Tracer};
use crate::worker::delay::delay_after;
use crate::worker::{Again, Claim, Consumer, Ended, Holding, Lane, Run, Settled, Wake};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The ceiling of the first delay after a failure, and the highest one.
const BASE: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_hours(1);
/// So many runs that fail in a row are told.
const TELLING: i32 = 3;

/// The consumer of the runs of pollers.
pub struct Runs {
    db: Database,
    catalog: Arc<Catalog>,
    pollers: Pollers,
    teller: Arc<Teller>,
    outbound: Outbound,
    tracer: Tracer,
}

impl Runs {
    /// A consumer that reads by `outbound` and tells the mappings of `catalog`.
    pub fn new(
        db: Database,
        catalog: Arc<Catalog>,
        sealer: Option<Arc<Sealer>>,
        outbound: Outbound,
        wake: Arc<Wake>,
        tracer: Tracer,
    ) -> Self {
        let teller = Arc::new(Teller::new(db.clone(), Arc::clone(&catalog), wake, tracer.clone()));
        Self { db, catalog, pollers: Pollers::new(sealer), teller, outbound, tracer }
    }
}

impl Consumer for Runs {
    type Outcome = Outcome;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.pollers.refresh(&self.db.worker, revision).await?;
        Ok(())
    }

    fn lanes(&self) -> Vec<Lane> {
        self.pollers.enabled().into_iter().map(of).collect()
    }

    fn lane(&self, id: i32) -> Option<Lane> {
        self.pollers.get(id).filter(|poller| poller.definition.enabled).map(|_| of(id))
    }

    fn owns(&self, lane: i32) -> bool {
        self.pollers.has(lane)
    }

    fn all(&self) -> Vec<i32> {
        self.pollers.all()
    }

    async fn load(&self, claims: Vec<Claim>, holding: &Holding) -> sqlx::Result<Vec<Run<Outcome>>> {
        let lanes: Vec<i32> = claims.iter().map(|claim| claim.lane).collect();
        let (revision, bookmarks) = bounded(snapshots::bookmarks(&self.db.worker, &lanes)).await?;
        if revision > self.pollers.revision() {
            self.refresh(revision).await?;
        }
        let mut of: HashMap<i32, HashMap<String, String>> = HashMap::new();
        for (lane, collection, since) in bookmarks {
            of.entry(lane).or_default().insert(collection, since);
        }
        let run = |claim: Claim| {
            let poller = self.pollers.get(claim.lane)?;
            let run = run::Run {
                outbound: self.outbound.clone(),
                ids: Arc::clone(&self.db.ids),
                hold: holding.of(claim.lease),
                teller: Arc::clone(&self.teller),
                claim: claim.clone(),
                poller,
                bookmarks: of.remove(&claim.lane).unwrap_or_default(),
            };
            Some(Run { claim, attempt: Box::pin(run.read()) })
        };
        Ok(claims.into_iter().filter_map(run).collect())
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Outcome>]) -> sqlx::Result<Settled> {
        let (mut settled, mut notices) = (Settled::default(), Vec::new());
        for end in ended {
            let Some(outcome) = &end.outcome else { continue };
            let Some(run) = pollers::lock_run(&mut *tx, end.claim.lane, end.claim.item).await? else {
                continue;
            };
            settled.written += 1;
            if let Some(span) = self.span(&end.claim, &run, outcome) {
                let tracer = self.tracer.clone();
                settled.lines.push(move || tracer.end(span));
            }
            // By a definition that is another now nothing more was told: it begins anew.
            let is_current = outcome.poller.as_ref().is_none_or(|poller| poller.version == run.version);
            let after = if is_current && !outcome.given_back {
                notices.extend(failing(&run, outcome));
                Self::write(&mut *tx, end.claim.lane, run.failures, outcome).await?
            } else {
                Some(Duration::ZERO)
            };
            if let Some(after) = after {
                let item = pollers::rename_run(&mut *tx, end.claim.lane).await?;
                let Claim { lane, rank, .. } = end.claim;
                settled.again.push(Again { lane, rank, item, attempt: 0, after, traceable: false });
            }
        }
        let told = notices::raise(tx, &self.catalog, &self.db.ids, &notices).await?;
        (settled.woken, settled.soonest) = (told.ready, told.soonest);
        Ok(settled)
    }

    fn weight(_outcome: &Outcome) -> usize {
        0
    }

    fn refused(&self, _outcome: Option<&Outcome>, error: &sqlx::Error) -> Outcome {
        tracing::error!(%error, "the database will not take what a poller read");
        Outcome::failed("the database will not take what was read")
    }

    fn panicked(&self, _message: &str) -> Outcome {
        Outcome::failed("the run panicked")
    }

    fn given_back(&self) -> Outcome {
        Outcome::given_back()
    }

    async fn lost(&self, tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Outcome>>> {
        let items: Vec<Uuid> = claims.iter().map(|claim| claim.item).collect();
        let runs = pollers::runs(tx, &items).await?;
        let lost = claims.into_iter().filter(|claim| runs.contains(&claim.item));
        Ok(lost.map(|claim| Ended { claim, outcome: Some(Outcome::failed("the worker was lost")) }).collect())
    }

    async fn written(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Outcome>],
    ) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
        // Every attempt is an item of its own, which goes with its end.
        let items: Vec<Uuid> = ended.iter().map(|end| end.claim.item).collect();
        let running = pollers::runs(tx, &items).await?;
        let over = ended.iter().filter(|end| !running.contains(&end.claim.item));
        Ok(over.map(|end| (end.claim.lease, end.claim.item)).collect())
    }
}

impl Runs {
    /// The span of a run, with which a trace begins.
    fn span(&self, claim: &Claim, run: &Running, outcome: &Outcome) -> Option<Span> {
        let context = self.tracer.attempt(None, claim.tried(claim.item)).filter(|_| self.tracer.is_on())?;
        let ended_at = self.db.ids.now().unwrap_or_default();
        Some(Span {
            name: format!("poll {}", run.name),
            kind: Kind::Internal,
            context,
            parent: None,
            started_at: claim.claimed_at,
            took: (ended_at - claim.claimed_at).to_std().unwrap_or_default(),
            attributes: vec![("postrider.poller", run.name.as_str().into())],
            failed: !outcome.errors.is_empty(),
        })
    }

    /// Writes how a run ended; returns how long until the next attempt, if there is to be one.
    async fn write(
        tx: &mut PgConnection,
        id: i32,
        failures: i32,
        outcome: &Outcome,
    ) -> sqlx::Result<Option<Duration>> {
        let remarks: Vec<&str> = outcome.errors.iter().chain(&outcome.remarks).map(String::as_str).collect();
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        if !outcome.errors.is_empty() {
            pollers::fail_run(tx, id, remark.as_deref()).await?;
            let attempt = u32::try_from(failures).unwrap_or_default().saturating_add(1);
            return Ok(Some(delay_after(attempt, BASE, CAP).max(outcome.after)));
        }
        pollers::end_run(tx, id, remark.as_deref()).await?;
        Ok(None)
    }
}

/// What is told of a poller whose run failed: once, when so many in a row have.
fn failing(run: &Running, outcome: &Outcome) -> Option<Notice> {
    let failures = run.failures.saturating_add(1);
    (!outcome.errors.is_empty() && failures == TELLING)
        .then(|| Notice::poller_failing(run.store_id, &run.name, failures, &outcome.errors.join("; ")))
}

/// The lane of a poller.
fn of(id: i32) -> Lane {
    Lane { id, concurrency: 1, yields: true }
}

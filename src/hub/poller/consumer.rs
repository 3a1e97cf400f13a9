//! The pollers as the engine sees them: a run reads, its settlement compares and tells.
//!
//! Every attempt at a run is an item of its own, named in its poller's row: an end is written by who finds its
//! item there, so once.

use super::change::change;
use super::fetch;
use super::pollers::{Poller, Pollers};
use super::walk::Read;
use crate::db::{Database, Ids, bounded};
use crate::http::outbound::Outbound;
use crate::hub::catalog::Catalog;
use crate::hub::message::Draft;
use crate::hub::routing;
use crate::hub::store::{pollers, snapshots};
use crate::seal::Sealer;
use crate::worker::delay::delay_after;
use crate::worker::{Again, Claim, Consumer, Ended, Lane, Run, Settled};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// The ceiling of the first delay after a failure, and the highest one.
const BASE: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_hours(1);
/// Records that are compared at a time.
const CHUNK: usize = 500;

/// The consumer of the runs of pollers.
pub struct Runs {
    db: Database,
    pollers: Arc<Pollers>,
    catalog: Arc<Catalog>,
    sealer: Option<Arc<Sealer>>,
    outbound: Outbound,
    /// Rings when a schedule may have changed.
    ticker: Arc<Notify>,
}

/// How an attempt at a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The poller as it ran; absent when its worker was lost.
    poller: Option<Arc<Poller>>,
    /// What was read: the place of the collection in the definition, and its changes.
    reads: Vec<(usize, Read)>,
    /// What went wrong, in coarse words.
    errors: Vec<String>,
    /// How long the storefront wants to be left alone at least.
    after: Duration,
}

impl Outcome {
    fn failed(error: &str) -> Self {
        Self { poller: None, reads: Vec::new(), errors: vec![error.to_owned()], after: Duration::ZERO }
    }
}

impl Runs {
    /// A consumer that reads by `outbound` and tells the mappings of `catalog`.
    pub fn new(
        db: Database,
        catalog: Arc<Catalog>,
        sealer: Option<Arc<Sealer>>,
        outbound: Outbound,
        ticker: Arc<Notify>,
    ) -> Self {
        Self { db, pollers: Arc::default(), catalog, sealer, outbound, ticker }
    }
}

impl Consumer for Runs {
    type Outcome = Outcome;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.pollers.refresh(&self.db.worker, self.sealer.as_deref(), revision).await?;
        self.ticker.notify_one();
        Ok(())
    }

    fn lanes(&self) -> Vec<Lane> {
        self.pollers.enabled().into_iter().map(|id| Lane { id, concurrency: 1, yields: false }).collect()
    }

    fn owns(&self, lane: i32) -> bool {
        self.pollers.all().contains(&lane)
    }

    fn all(&self) -> Vec<i32> {
        self.pollers.all()
    }

    async fn load(&self, claims: Vec<Claim>) -> sqlx::Result<Vec<Run<Outcome>>> {
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
            let bookmarks = of.remove(&claim.lane).unwrap_or_default();
            let ids = Arc::clone(&self.db.ids);
            let attempt = Box::pin(read(self.outbound.clone(), ids, poller, bookmarks));
            Some(Run { claim, attempt })
        };
        Ok(claims.into_iter().filter_map(run).collect())
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Outcome>]) -> sqlx::Result<Settled> {
        let mut settled = Settled::default();
        for end in ended {
            let Some(outcome) = &end.outcome else { continue };
            let Some(run) = pollers::lock_run(&mut *tx, end.claim.lane, end.claim.item).await? else {
                continue;
            };
            settled.written += 1;
            // What was read by a definition that is another now is not looked at.
            let is_current = outcome.poller.as_ref().is_none_or(|poller| poller.version == run.version);
            let after = if is_current {
                self.write(&mut *tx, end.claim.lane, run.failures, outcome, &mut settled).await?
            } else {
                Some(Duration::ZERO)
            };
            if let Some(after) = after {
                let item = pollers::rename_run(&mut *tx, end.claim.lane).await?;
                let Claim { lane, rank, .. } = end.claim;
                settled.again.push(Again { lane, rank, item, attempt: 0, after });
            }
        }
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
    /// Writes what was read and how the run ended; gives how long until the next attempt, if there is to be one.
    async fn write(
        &self,
        tx: &mut PgConnection,
        id: i32,
        failures: i32,
        outcome: &Outcome,
        settled: &mut Settled,
    ) -> sqlx::Result<Option<Duration>> {
        let mut drafts = Vec::new();
        let mut remarks = outcome.errors.clone();
        let mut more = false;
        if let Some(poller) = &outcome.poller {
            for (place, read) in &outcome.reads {
                let collection = &poller.definition.collections[*place];
                more |= read.more;
                if read.unusable > 0 {
                    let count = read.unusable;
                    remarks.push(format!(
                        "{}: {count} records cannot be used and were left out",
                        collection.name
                    ));
                }
                for records in read.records.chunks(CHUNK) {
                    let known = snapshots::of(&mut *tx, id, &collection.name, records).await?;
                    let mut changed = Vec::new();
                    for record in records {
                        let previous = known.get(&record.id).map(AsRef::as_ref);
                        // Both were read as objects before: neither can fail.
                        let Ok(Some(change)) = change(collection, previous, &record.raw) else { continue };
                        changed.push(record);
                        drafts.push(Draft {
                            id: self.db.ids.next(),
                            store_id: poller.store_id,
                            key: change.key,
                            payload: change.payload,
                            parent: None,
                            hop: 0,
                            delay: Duration::ZERO,
                            parked: None,
                        });
                    }
                    snapshots::keep(&mut *tx, id, &collection.name, &changed).await?;
                }
                if let Some(bookmark) = &read.bookmark {
                    snapshots::mark(&mut *tx, id, &collection.name, bookmark).await?;
                }
            }
        }
        let accepted = routing::accept(&mut *tx, &self.catalog, &self.db.ids, drafts).await?;
        settled.woken.extend(accepted.ready);
        settled.soonest = [settled.soonest, accepted.soonest].into_iter().flatten().min();
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        if !outcome.errors.is_empty() {
            pollers::fail_run(tx, id, remark.as_deref()).await?;
            let attempt = u32::try_from(failures).unwrap_or_default().saturating_add(1);
            return Ok(Some(delay_after(attempt, BASE, CAP).max(outcome.after)));
        }
        pollers::end_run(tx, id, more, remark.as_deref()).await?;
        Ok(more.then_some(Duration::ZERO))
    }
}

/// Reads every collection; one that fails does not stand in the way of the others.
async fn read(
    outbound: Outbound,
    ids: Arc<Ids>,
    poller: Arc<Poller>,
    bookmarks: HashMap<String, String>,
) -> Outcome {
    let (mut reads, mut errors, mut after) = (Vec::new(), Vec::new(), Duration::ZERO);
    for (place, collection) in poller.definition.collections.iter().enumerate() {
        let bookmark = bookmarks.get(&collection.name).map(String::as_str);
        match fetch::read(&outbound, &ids, &poller, collection, bookmark).await {
            Ok(read) => reads.push((place, read)),
            Err(failure) => {
                errors.push(format!("{}: {}", collection.name, failure.why));
                after = after.max(failure.after);
            }
        }
    }
    Outcome { poller: Some(poller), reads, errors, after }
}

//! Tells what changed among the records of a page: messages, snapshots and bookmark in one transaction, fenced by the
//! run's lease. What is told is told for good, whatever becomes of the rest of the run.
//!
//! It can be repeated: what is in the snapshots has not changed. So a transaction of which nobody knows whether it was
//! committed is tried again, and one that takes too long is halved.

use super::change::{Change, change};
use super::page::Record;
use super::pollers::Poller;
use super::store::{pollers, snapshots};
use crate::db::{self, Database};
use crate::error::{is_passing, is_time_out};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::routing::decide::{self, Accepted};
use crate::hub::routing::message::Draft;
use crate::traces::{Context, Tracer};
use crate::worker::{Claim, Wake, store as engine};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Records in one transaction.
const BATCH: usize = 500;
/// Runs that write at a time: more would only keep claims and ends from the connections.
const WRITERS: usize = 2;
/// So often is a record tried alone that the database takes too long for.
const TRIES: u32 = 3;
/// The pauses of one that is tried again.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// Why records were not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untold {
    /// The run is somebody else's by now, or its poller has another definition.
    Over,
    /// The database takes too long for one of them.
    TooSlow,
}

/// What a page brought.
pub(super) struct Told<'a> {
    /// Its records.
    pub(super) records: &'a [Record],
    /// Up to where the collection was read, once that is so.
    pub(super) bookmark: Option<String>,
    /// Whether they are only to be known from now on.
    pub(super) is_silent: bool,
}

/// What tells the changes that the runs of this process find.
pub(super) struct Teller {
    db: Database,
    catalog: Arc<Catalog>,
    wake: Arc<Wake>,
    writers: Semaphore,
    tracer: Tracer,
}

/// What one transaction writes.
struct Part {
    claim: Claim,
    poller: Arc<Poller>,
    /// The place of the collection in the definition.
    place: usize,
    records: Vec<Record>,
    /// Up to where the collection was read, once that is so.
    bookmark: Option<String>,
    is_silent: bool,
    /// The span of the run.
    trace: Option<Context>,
}

impl Teller {
    pub(super) fn new(db: Database, catalog: Arc<Catalog>, wake: Arc<Wake>, tracer: Tracer) -> Self {
        Self { db, catalog, wake, writers: Semaphore::new(WRITERS), tracer }
    }

    /// Tells what changed among these records, and then notes the bookmark; returns how many records the database
    /// refused.
    pub(super) async fn tell(
        &self,
        claim: &Claim,
        poller: &Arc<Poller>,
        place: usize,
        told: Told<'_>,
    ) -> Result<usize, Untold> {
        let Told { records, mut bookmark, is_silent } = told;
        let mut parts: Vec<&[Record]> = records.chunks(BATCH).rev().collect();
        if parts.is_empty() && bookmark.is_some() {
            parts.push(&[]);
        }
        let (mut pause, mut slow, mut refused) = (SHORTEST, 0, 0);
        while let Some(records) = parts.pop() {
            let part = Part {
                claim: claim.clone(),
                poller: Arc::clone(poller),
                place,
                records: records.to_vec(),
                bookmark: bookmark.clone().filter(|_| parts.is_empty()),
                is_silent,
                trace: self.tracer.attempt(None, claim.tried(claim.item)),
            };
            let error = match self.write(part).await {
                Ok(Some(accepted)) => {
                    accepted.ring(&self.wake);
                    (pause, slow) = (SHORTEST, 0);
                    bookmark = bookmark.filter(|_| !parts.is_empty());
                    continue;
                }
                Ok(None) => return Err(Untold::Over),
                Err(error) => error,
            };
            tracing::warn!(%error, poller = poller.name, records = records.len(), "cannot tell what changed");
            slow += u32::from(is_time_out(&error));
            if (is_time_out(&error) || !is_passing(&error)) && records.len() > 1 {
                let (first, second) = records.split_at(records.len() / 2);
                parts.extend([second, first]);
                slow = 0;
            } else if is_passing(&error) {
                if slow == TRIES {
                    return Err(Untold::TooSlow);
                }
                parts.push(records);
            } else {
                refused += records.len();
                // The bookmark goes by itself, where the record that it was to go with cannot.
                if parts.is_empty() && bookmark.is_some() && !records.is_empty() {
                    parts.push(&[]);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
        Ok(refused)
    }

    /// Writes a part; `None` if its run is over.
    async fn write(&self, part: Part) -> sqlx::Result<Option<Accepted>> {
        // It is never closed.
        let _place = self.writers.acquire().await;
        let (catalog, ids) = (Arc::clone(&self.catalog), Arc::clone(&self.db.ids));
        db::transaction(&self.db.worker, move |tx| {
            Box::pin(async move {
                if !is_ours(&mut *tx, &part).await? {
                    return Ok(None);
                }
                let Part { claim, poller, place, records, bookmark, is_silent, trace } = part;
                let collection = &poller.definition.collections[place];
                let known = snapshots::of(&mut *tx, claim.lane, &collection.name, &records).await?;
                let (mut changed, mut drafts) = (Vec::new(), Vec::new());
                for record in once(&records) {
                    let previous = known.get(&record.id).map(AsRef::as_ref);
                    // Both were read as objects before: neither can fail.
                    let Ok(Some(change)) = change(collection, previous, &record.raw) else { continue };
                    changed.push(record);
                    if is_silent {
                        continue;
                    }
                    let Change { key, payload } = change;
                    let draft = Draft::from_outside(ids.next(), poller.store_id, key, payload);
                    drafts.push(Draft { trace: trace.clone(), ..draft });
                }
                snapshots::keep(&mut *tx, claim.lane, &collection.name, &changed).await?;
                if let Some(bookmark) = &bookmark {
                    snapshots::mark(&mut *tx, claim.lane, &collection.name, bookmark).await?;
                }
                Ok(Some(decide::accept(tx, &catalog, &ids, drafts).await?))
            })
        })
        .await
    }
}

/// Locks the run's lease and its poller; says whether the run is still the one that read this.
async fn is_ours(tx: &mut PgConnection, part: &Part) -> sqlx::Result<bool> {
    let lease = [part.claim.lease];
    let alive = if part.records.len() > 1 {
        engine::fence_shortly(&mut *tx, &[], &lease).await?
    } else {
        engine::fence(&mut *tx, &[], &lease).await?
    };
    if alive.is_empty() {
        return Ok(false);
    }
    let run = pollers::lock_run(tx, part.claim.lane, part.claim.item).await?;
    Ok(run.is_some_and(|run| run.version == part.poller.version))
}

/// Each record once, as it was last seen.
fn once(records: &[Record]) -> impl Iterator<Item = &Record> {
    let last: std::collections::HashMap<&str, usize> =
        records.iter().enumerate().map(|(place, record)| (record.id.as_str(), place)).collect();
    records
        .iter()
        .enumerate()
        .filter(move |(place, record)| last[record.id.as_str()] == *place)
        .map(|(_, r)| r)
}

//! What a process knows of one kind of definition: the rows as they are used, one snapshot at a time.
//!
//! ```text
//!   a change: its row's version = catalog.revision + 1            a deletion: also catalog.removed = that revision
//!                                 │
//!   known.revision < revision: rows whose version is newer ───▶ a copy of what is known, with these in it
//!   known.revision < removed:  which ids there are ───────────▶ ... and without the others ───▶ the new snapshot
//! ```
//!
//! A change waits in the catalog's row for the one before it, so whoever reads a revision sees all that led to it. What
//! is read grows with what changed, not with what there is. A snapshot is never changed: who has one works with it,
//! whatever happens meanwhile.

use super::store::Catalogued;
use crate::db::bounded;
use arc_swap::{ArcSwap, Guard};
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a row may take to be made ready. One that takes longer cannot be used, and holds up no other for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a row that cannot be used is tried again: the reason may have been a passing one.
const AGAIN: Duration = Duration::from_secs(5);

/// A kind of definition.
pub trait Kind: Send + Sync + 'static {
    /// A row as it is stored.
    type Row: Stored;
    /// All that is known of the kind, in the ways in which it is looked up.
    type Known: Clone + Default + Send + Sync;

    /// The rows that changed after the revision `known`, and those of `again`, with the state of the catalog that they
    /// belong to: one statement.
    fn changed(
        &self,
        db: &PgPool,
        known: i64,
        again: &[i32],
    ) -> impl Future<Output = sqlx::Result<(Catalogued, Vec<Self::Row>)>> + Send;

    /// The ids of all rows that there are.
    fn ids(&self, db: &PgPool) -> impl Future<Output = sqlx::Result<Vec<i32>>> + Send;

    /// Takes a row in. One that cannot be used is refused with the reason, and what was known of it before may stay.
    fn learn(
        &self,
        known: &mut Self::Known,
        row: Self::Row,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Forgets the rows that are not among these.
    fn retain(&self, known: &mut Self::Known, there: &HashSet<i32>);
}

/// What every row has.
pub trait Stored: Send {
    /// Its id, which never comes back.
    fn id(&self) -> i32;
    /// The catalog's revision at its last change.
    fn version(&self) -> i64;
    /// What it is called in the log.
    fn label(&self) -> String;
}

/// What is known at one revision.
#[derive(Debug, Default)]
pub struct Snapshot<T> {
    /// The catalog's revision.
    pub revision: i64,
    /// What is known.
    pub known: T,
    /// The rows that cannot be used, each with its version.
    unusable: HashMap<i32, i64>,
}

impl<T> Snapshot<T> {
    /// Whether every row there is can be used.
    pub fn is_complete(&self) -> bool {
        self.unusable.is_empty()
    }
}

/// The definitions of one kind.
#[derive(Debug)]
pub struct Definitions<K: Kind> {
    kind: K,
    current: ArcSwap<Snapshot<K::Known>>,
    /// When what cannot be used was last tried. Locked while one reads for all.
    tried: tokio::sync::Mutex<Option<Instant>>,
}

impl<K: Kind> Definitions<K> {
    /// Definitions of which nothing is known yet.
    pub fn new(kind: K) -> Self {
        let nothing = Snapshot { revision: 0, known: K::Known::default(), unusable: HashMap::new() };
        Self { kind, current: ArcSwap::from_pointee(nothing), tried: tokio::sync::Mutex::default() }
    }

    /// What is known now.
    pub fn load(&self) -> Guard<Arc<Snapshot<K::Known>>> {
        self.current.load()
    }

    /// What is known now, to be kept for a while.
    pub fn snapshot(&self) -> Arc<Snapshot<K::Known>> {
        self.current.load_full()
    }

    /// Learns what changed, unless `revision` is known already; says whether there was a newer one. A row that cannot
    /// be used is logged, and the others work.
    ///
    /// # Errors
    /// The database cannot be read; the former snapshot stays.
    pub async fn refresh(&self, db: &PgPool, revision: i64) -> sqlx::Result<bool> {
        // One at a time: the others find it done.
        let mut tried = self.tried.lock().await;
        let former = self.snapshot();
        let tries_again = !former.unusable.is_empty() && tried.is_none_or(|at| at.elapsed() >= AGAIN);
        if former.revision >= revision && !tries_again {
            return Ok(false);
        }
        let again: Vec<i32> =
            if tries_again { former.unusable.keys().copied().collect() } else { Vec::new() };
        let (catalog, rows) = bounded(self.kind.changed(db, former.revision, &again)).await?;
        let mut next = Snapshot {
            revision: catalog.revision,
            known: former.known.clone(),
            unusable: former.unusable.clone(),
        };
        for row in rows {
            let (id, version, label) = (row.id(), row.version(), row.label());
            let learned = tokio::time::timeout(PATIENCE, self.kind.learn(&mut next.known, row)).await;
            let Err(why) = learned.unwrap_or_else(|_| Err("it takes too long to be made ready".to_owned()))
            else {
                next.unusable.remove(&id);
                continue;
            };
            if next.unusable.insert(id, version) != Some(version) {
                tracing::error!(definition = label, why, "a stored definition cannot be used");
            }
        }
        if catalog.removed > former.revision {
            let there: HashSet<i32> = bounded(self.kind.ids(db)).await?.into_iter().collect();
            self.kind.retain(&mut next.known, &there);
            next.unusable.retain(|id, _| there.contains(id));
        }
        if tries_again || former.unusable.is_empty() {
            *tried = Some(Instant::now());
        }
        let is_newer = next.revision > former.revision;
        self.current.store(Arc::new(next));
        Ok(is_newer)
    }
}

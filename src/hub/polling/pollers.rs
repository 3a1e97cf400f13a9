//! The pollers as this process knows them, one snapshot at a time.

use super::definition::Definition;
use super::document::PutPoller;
use super::store::pollers::{self, Row};
use crate::http::json_text::to_value;
use crate::hub::purpose::Purpose;
use crate::seal::Sealer;
use crate::worker::definitions::{Definitions, Kind, Stored};
use crate::worker::store::Catalogued;
use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A poller, ready to run.
#[derive(Debug)]
pub struct Poller {
    /// Its lane.
    pub id: i32,
    /// Its store.
    pub store_id: i32,
    /// Its name in the API.
    pub name: String,
    /// What it is.
    pub definition: Definition,
    /// What it shows the storefront.
    pub token: Option<SecretString>,
    /// The catalog's revision at its last change.
    pub version: i64,
}

/// The pollers that this process knows.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Those that can be used.
    ready: HashMap<i32, Arc<Poller>>,
    /// All lanes, usable or not.
    lanes: HashSet<i32>,
}

/// Definitions of pollers.
struct OfPollers {
    sealer: Option<Arc<Sealer>>,
}

/// All pollers of the instance.
pub struct Pollers(Definitions<OfPollers>);

impl Pollers {
    /// Pollers whose tokens are opened with this sealer; none is known yet.
    pub fn new(sealer: Option<Arc<Sealer>>) -> Self {
        Self(Definitions::new(OfPollers { sealer }))
    }

    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.0.load().revision
    }

    /// The poller of this lane.
    pub fn get(&self, id: i32) -> Option<Arc<Poller>> {
        self.0.load().known.ready.get(&id).cloned()
    }

    /// The lanes of those that run.
    pub fn enabled(&self) -> Vec<i32> {
        let current = self.0.load();
        let ready = current.known.ready.values();
        ready.filter(|poller| poller.definition.enabled).map(|poller| poller.id).collect()
    }

    /// Whether a poller has this lane, usable or not.
    pub fn has(&self, id: i32) -> bool {
        self.0.load().known.lanes.contains(&id)
    }

    /// The lanes of all.
    pub fn all(&self) -> Vec<i32> {
        self.0.load().known.lanes.iter().copied().collect()
    }

    /// Learns what changed, unless this process knows `revision` already; says whether there was a newer one.
    ///
    /// # Errors
    /// The database cannot be read; what was known stays.
    pub async fn refresh(&self, db: &PgPool, revision: i64) -> sqlx::Result<bool> {
        self.0.refresh(db, revision).await
    }
}

impl Stored for Row {
    fn id(&self) -> i32 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn label(&self) -> String {
        format!("poller {}", self.name)
    }
}

impl Kind for OfPollers {
    type Row = Row;
    type Known = Known;

    async fn changed(&self, db: &PgPool, known: i64, again: &[i32]) -> sqlx::Result<(Catalogued, Vec<Row>)> {
        pollers::changed(db, known, again).await
    }

    async fn ids(&self, db: &PgPool) -> sqlx::Result<Vec<i32>> {
        pollers::ids(db).await
    }

    async fn learn(&self, known: &mut Known, row: Row) -> Result<(), String> {
        let id = row.id;
        known.lanes.insert(id);
        match ready(row, self.sealer.as_deref()) {
            Ok(poller) => _ = known.ready.insert(id, Arc::new(poller)),
            Err(error) => {
                // It does not run: what it reads by another definition would be thrown away.
                known.ready.remove(&id);
                return Err(format!("{error:#}"));
            }
        }
        Ok(())
    }

    fn retain(&self, known: &mut Known, there: &HashSet<i32>) {
        known.lanes.retain(|id| there.contains(id));
        known.ready.retain(|id, _| there.contains(id));
    }
}

/// A stored poller, ready to run.
pub(super) fn ready(row: Row, sealer: Option<&Sealer>) -> anyhow::Result<Poller> {
    let document = to_value(row.definition.get()).unwrap_or_default();
    let definition = PutPoller::read(&document)?.definition;
    let token = match &row.token {
        Some(closed) => {
            let sealer = sealer.context("there is no key to open its token with")?;
            Some(sealer.open(closed, &Purpose::PollerToken(&row.name).of_store(row.store_id))?)
        }
        None => None,
    };
    let Row { id, store_id, name, version, .. } = row;
    Ok(Poller { id, store_id, name, definition, token, version })
}

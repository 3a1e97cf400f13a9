//! The pollers as this process knows them, one snapshot at a time.

use super::definition::Definition;
use crate::http::json_text::to_value;
use crate::hub::definition::PutPoller;
use crate::hub::purpose::Purpose;
use crate::hub::store::pollers::{self, Row};
use crate::seal::Sealer;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use secrecy::SecretString;
use sqlx::postgres::PgPool;
use std::collections::HashMap;
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

#[derive(Debug, Default)]
struct Snapshot {
    revision: i64,
    /// Those that can be used.
    ready: HashMap<i32, Arc<Poller>>,
    /// All lanes, usable or not.
    lanes: Vec<i32>,
}

/// All pollers of the instance.
#[derive(Debug, Default)]
pub struct Pollers {
    current: ArcSwap<Snapshot>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Pollers {
    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.current.load().revision
    }

    /// The poller of this lane.
    pub fn get(&self, id: i32) -> Option<Arc<Poller>> {
        self.current.load().ready.get(&id).cloned()
    }

    /// The lanes of those that run.
    pub fn enabled(&self) -> Vec<i32> {
        let current = self.current.load();
        current.ready.values().filter(|poller| poller.definition.enabled).map(|poller| poller.id).collect()
    }

    /// The lanes of all.
    pub fn all(&self) -> Vec<i32> {
        self.current.load().lanes.clone()
    }

    /// Reads the pollers unless this process knows `revision` already.
    ///
    /// # Errors
    /// The database cannot be read; the former snapshot stays.
    pub async fn refresh(&self, db: &PgPool, sealer: Option<&Sealer>, revision: i64) -> sqlx::Result<()> {
        let _one = self.refreshing.lock().await;
        let former = self.current.load_full();
        if former.revision >= revision {
            return Ok(());
        }
        let (revision, rows) = pollers::all(db).await?;
        let mut next = Snapshot { revision, ..Snapshot::default() };
        for row in rows {
            next.lanes.push(row.id);
            let (id, name) = (row.id, row.name.clone());
            let kept = former.ready.get(&id).filter(|poller| poller.version == row.version).cloned();
            match kept.map_or_else(|| ready(row, sealer).map(Arc::new), Ok) {
                Ok(poller) => drop(next.ready.insert(id, poller)),
                Err(error) => {
                    tracing::error!(
                        poller = name,
                        error = format!("{error:#}"),
                        "a stored poller cannot be used: it does not run"
                    );
                }
            }
        }
        self.current.store(Arc::new(next));
        Ok(())
    }
}

/// A stored poller, ready to run.
fn ready(row: Row, sealer: Option<&Sealer>) -> anyhow::Result<Poller> {
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

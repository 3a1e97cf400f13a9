//! The endpoints and mappings as this process knows them, one snapshot at a time.

use super::definition::PutEndpoint;
use super::endpoint::Endpoint;
use super::mapping::{Definition, Mapping};
use super::purpose::Purpose;
use super::store::{endpoints, mappings};
use crate::error::Error;
use crate::http::json_text::to_value;
use crate::seal::{Sealed, Sealer};
use crate::worker::store as engine;
use arc_swap::ArcSwap;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgPool;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Snapshot {
    revision: i64,
    /// Whether a definition could not be used.
    incomplete: bool,
    endpoints: HashMap<i32, Arc<Endpoint>>,
    mappings: HashMap<i32, Arc<Mapping>>,
    by_store: HashMap<i32, Vec<Arc<Mapping>>>,
}

/// All endpoints and mappings of the instance.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<Snapshot>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.current.load().revision
    }

    /// The endpoint of this lane.
    pub fn endpoint(&self, id: i32) -> Option<Arc<Endpoint>> {
        self.current.load().endpoints.get(&id).cloned()
    }

    /// A mapping that was not deleted.
    pub fn mapping(&self, id: i32) -> Option<Arc<Mapping>> {
        self.current.load().mappings.get(&id).cloned()
    }

    /// The mappings of a store, by name.
    pub fn of_store(&self, store_id: i32) -> Vec<Arc<Mapping>> {
        self.current.load().by_store.get(&store_id).cloned().unwrap_or_default()
    }

    /// Calls `visit` for every endpoint, in no order.
    pub fn each_endpoint(&self, visit: impl FnMut(&Arc<Endpoint>)) {
        self.current.load().endpoints.values().for_each(visit);
    }

    /// Reads what changed, unless this process knows `revision` already. A definition that cannot be used is
    /// out of service, loudly, or stays what it was; the others work.
    ///
    /// # Errors
    /// The database cannot be read; the former snapshot stays.
    pub async fn refresh(&self, db: &PgPool, sealer: Option<&Sealer>, revision: i64) -> sqlx::Result<()> {
        // One at a time: the others find it done.
        let _one = self.refreshing.lock().await;
        let former = self.current.load_full();
        if former.revision >= revision && !former.incomplete {
            return Ok(());
        }
        let known = if former.incomplete { -1 } else { former.revision };
        // Read first: what changes while the rest is read is read again. Mappings before endpoints, so that
        // each finds its own.
        let mut next = Snapshot { revision: engine::revision(db).await?, ..Snapshot::default() };
        let (mappings, endpoints) =
            (mappings::live(db, None, known).await?, endpoints::all(db, known).await?);
        for row in mappings {
            let (id, store) = (row.id, row.store_id);
            let mapping = self.compiled(row);
            next.incomplete |= mapping.is_none();
            let Some(mapping) = mapping.or_else(|| former.mappings.get(&id).cloned()) else { continue };
            next.by_store.entry(store).or_default().push(Arc::clone(&mapping));
            next.mappings.insert(id, mapping);
        }
        for row in endpoints {
            let id = row.id;
            let kept = former.endpoints.get(&id);
            let endpoint = match kept.filter(|endpoint| endpoint.version == row.version) {
                Some(endpoint) => Some(Arc::clone(endpoint)),
                None => opened(row, sealer).map(Arc::new),
            };
            next.incomplete |= endpoint.is_none();
            next.endpoints.extend(endpoint.or_else(|| kept.cloned()).map(|endpoint| (id, endpoint)));
        }
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// The mapping of a row: the one that is known, where it did not change. `None` if its definition cannot be
    /// used, which is logged.
    pub fn compiled(&self, row: mappings::Row) -> Option<Arc<Mapping>> {
        if let Some(known) = self.mapping(row.id).filter(|known| known.version == row.version) {
            return Some(known);
        }
        let document = row.definition.and_then(|json| to_value(json.0.get())).unwrap_or_default();
        let (definition, _) = match Definition::read(&document) {
            Ok(read) => read,
            Err(why) => {
                out_of_service("mapping", &row.store, &row.name, &why);
                return None;
            }
        };
        Some(Arc::new(Mapping {
            id: row.id,
            store_id: row.store_id,
            store: row.store,
            name: row.name,
            endpoint_id: row.endpoint_id,
            definition,
            enabled: row.enabled,
            version: row.version,
        }))
    }
}

/// The endpoint of a row, its secrets opened. `None` if that or its definition fails, which is logged.
fn opened(row: endpoints::Row, sealer: Option<&Sealer>) -> Option<Endpoint> {
    match open(&row, sealer) {
        Ok((put, token, signing_secrets)) => Some(Endpoint {
            id: row.id,
            store_id: row.store_id,
            store: row.store,
            name: row.name,
            definition: put.definition,
            token,
            signing_secrets,
            version: row.version,
            failures: row.failures,
            open_until: row.open_until,
            gone_at: row.gone_at,
        }),
        Err(why) => {
            out_of_service("endpoint", &row.store, &row.name, &why);
            None
        }
    }
}

type Opened = (PutEndpoint, Option<SecretString>, Vec<SecretString>);

fn open(row: &endpoints::Row, sealer: Option<&Sealer>) -> Result<Opened, Error> {
    let document = row.definition.as_ref().and_then(|json| to_value(json.0.get())).unwrap_or_default();
    let put = PutEndpoint::read(&document)?;
    let reveal = |bytes: &Option<Vec<u8>>, purpose: Purpose<'_>| {
        let Some(bytes) = bytes else { return Ok(None) };
        let secret = Sealed { key_id: row.key_id.clone().unwrap_or_default(), bytes: bytes.clone() };
        let sealer = sealer.ok_or_else(|| anyhow::anyhow!("POSTRIDER_SECRET_KEY is not set"));
        let opened = sealer.and_then(|sealer| Ok(sealer.open(&secret, &purpose.of_store(row.store_id))?));
        opened.map(Some).map_err(Error::Internal)
    };
    let token = reveal(&row.token, Purpose::Token(&row.name))?;
    let secrets = match reveal(&row.secrets, Purpose::SigningSecrets(&row.name))? {
        Some(secrets) => {
            serde_json::from_str::<Vec<String>>(secrets.expose_secret()).map_err(Error::internal)?
        }
        None => Vec::new(),
    };
    Ok((put, token, secrets.into_iter().map(SecretString::from).collect()))
}

fn out_of_service(what: &str, store: &str, name: &str, why: &Error) {
    let chain = match why {
        Error::Invalid(_, violations) => format!("{violations:?}"),
        Error::Internal(error) => format!("{error:#}"),
        other => other.to_string(),
    };
    tracing::error!(store, name, why = chain, "a stored {what} cannot be used: it is out of service");
}

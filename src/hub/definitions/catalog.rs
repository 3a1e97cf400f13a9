//! The endpoints and mappings as this process knows them, one snapshot at a time.

use super::documents::PutEndpoint;
use super::endpoint::Endpoint;
use super::mapping::{Definition, Mapping};
use super::store::{endpoints, mappings};
use super::wire_secrets::{Bears, WireSecrets};
use crate::db::by_id;
use crate::error::Error;
use crate::hub::purpose::Purpose;
use crate::seal::{Sealed, Sealer};
use crate::worker::definitions::{Definitions, Kind, Stored};
use crate::worker::store::Catalogued;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// All endpoints and mappings of the instance.
pub struct Catalog {
    endpoints: Definitions<OfEndpoints>,
    mappings: Definitions<OfMappings>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Catalog {
    /// A catalog that opens secrets with this sealer, and knows nothing yet.
    pub fn new(sealer: Option<Arc<Sealer>>) -> Self {
        Self { endpoints: Definitions::new(OfEndpoints { sealer }), mappings: Definitions::new(OfMappings) }
    }

    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.endpoints.load().revision.min(self.mappings.load().revision)
    }

    /// The endpoint of this lane.
    pub fn endpoint(&self, id: i32) -> Option<Arc<Endpoint>> {
        self.endpoints.load().known.get(&id).cloned()
    }

    /// A mapping that was not deleted.
    pub fn mapping(&self, id: i32) -> Option<Arc<Mapping>> {
        self.mappings.load().known.by_id.get(&id).cloned()
    }

    /// The mappings of a store, by name.
    pub fn of_store(&self, store_id: i32) -> Vec<Arc<Mapping>> {
        self.mappings.load().known.by_store.get(&store_id).cloned().unwrap_or_default()
    }

    /// The mappings of the store of this name, by name, and the catalog's revision that they belong to.
    pub fn of_store_named(&self, store: &str) -> (i64, Vec<Arc<Mapping>>) {
        let snapshot = self.mappings.load();
        let known = &snapshot.known;
        let mappings = known.stores.get(store).and_then(|id| known.by_store.get(id));
        (snapshot.revision, mappings.cloned().unwrap_or_default())
    }

    /// How many mappings a store has.
    pub fn mappings_of(&self, store_id: i32) -> usize {
        self.mappings.load().known.by_store.get(&store_id).map_or(0, Vec::len)
    }

    /// Calls `visit` for every endpoint, in no order.
    pub fn each_endpoint(&self, visit: impl FnMut(&Arc<Endpoint>)) {
        self.endpoints.load().known.values().for_each(visit);
    }

    /// Learns what changed, unless this process knows `revision` already.
    ///
    /// # Errors
    /// The database cannot be read; what was known stays.
    pub async fn refresh(&self, db: &PgPool, revision: i64) -> sqlx::Result<()> {
        // Mappings before endpoints, so that each finds its own.
        self.mappings.refresh(db, revision).await?;
        self.endpoints.refresh(db, revision).await?;
        Ok(())
    }

    /// The mapping of a row: the one that is known, where it did not change. `None` if its definition cannot be
    /// used, which is logged.
    pub fn compiled(&self, row: mappings::Row) -> Option<Arc<Mapping>> {
        if let Some(known) = self.mapping(row.id).filter(|known| known.version == row.version) {
            return Some(known);
        }
        let label = row.label();
        match read(row) {
            Ok(mapping) => Some(Arc::new(mapping)),
            Err(why) => {
                tracing::error!(definition = label, why, "a stored definition cannot be used");
                None
            }
        }
    }
}

/// The mappings that this process knows.
#[derive(Debug, Clone, Default)]
struct KnownMappings {
    by_id: by_id::HashMap<i32, Arc<Mapping>>,
    /// Those of each store, by name.
    by_store: by_id::HashMap<i32, Vec<Arc<Mapping>>>,
    /// The stores that have some, by name.
    stores: HashMap<String, i32>,
}

/// Definitions of mappings.
struct OfMappings;

impl Stored for mappings::Row {
    fn id(&self) -> i32 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn label(&self) -> String {
        format!("mapping {} of store {}", self.name, self.store)
    }
}

impl Kind for OfMappings {
    type Row = mappings::Row;
    type Known = KnownMappings;

    async fn changed(
        &self,
        db: &PgPool,
        known: i64,
        again: &[i32],
    ) -> sqlx::Result<(Catalogued, Vec<mappings::Row>)> {
        mappings::changed(db, known, again).await
    }

    async fn ids(&self, db: &PgPool) -> sqlx::Result<Vec<i32>> {
        mappings::ids(db).await
    }

    /// One that cannot be read stays what it was.
    async fn learn(&self, known: &mut KnownMappings, row: mappings::Row) -> Result<(), String> {
        let mapping = Arc::new(read(row)?);
        if !known.stores.contains_key(&mapping.store) {
            known.stores.insert(mapping.store.clone(), mapping.store_id);
        }
        let of_store = known.by_store.entry(mapping.store_id).or_default();
        of_store.retain(|other| other.id != mapping.id);
        let place = of_store.partition_point(|other| other.name < mapping.name);
        of_store.insert(place, Arc::clone(&mapping));
        known.by_id.insert(mapping.id, mapping);
        Ok(())
    }

    fn retain(&self, known: &mut KnownMappings, there: &HashSet<i32>) {
        known.by_id.retain(|id, _| there.contains(id));
        known.by_store.retain(|_, of_store| {
            of_store.retain(|mapping| there.contains(&mapping.id));
            !of_store.is_empty()
        });
        known.stores.retain(|_, id| known.by_store.contains_key(id));
    }
}

fn read(row: mappings::Row) -> Result<Mapping, String> {
    let document = serde_json::from_str(row.definition.get()).map_err(|error| error.to_string())?;
    let (definition, _) = Definition::read(&document).map_err(|why| reason(&why))?;
    Ok(Mapping {
        id: row.id,
        store_id: row.store_id,
        store: row.store,
        name: row.name,
        endpoint_id: row.endpoint_id,
        definition,
        enabled: row.enabled,
        version: row.version,
    })
}

/// Definitions of endpoints.
struct OfEndpoints {
    sealer: Option<Arc<Sealer>>,
}

impl Stored for endpoints::Row {
    fn id(&self) -> i32 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn label(&self) -> String {
        format!("endpoint {} of store {}", self.name, self.store)
    }
}

impl Kind for OfEndpoints {
    type Row = endpoints::Row;
    type Known = by_id::HashMap<i32, Arc<Endpoint>>;

    async fn changed(
        &self,
        db: &PgPool,
        known: i64,
        again: &[i32],
    ) -> sqlx::Result<(Catalogued, Vec<endpoints::Row>)> {
        endpoints::changed(db, known, again).await
    }

    async fn ids(&self, db: &PgPool) -> sqlx::Result<Vec<i32>> {
        endpoints::ids(db).await
    }

    /// One that cannot be read, or whose secrets cannot be opened, stays what it was.
    async fn learn(&self, known: &mut Self::Known, row: endpoints::Row) -> Result<(), String> {
        let (put, opened) = open(&row, self.sealer.as_deref()).map_err(|why| reason(&why))?;
        let endpoint = Endpoint {
            id: row.id,
            store_id: row.store_id,
            store: row.store,
            name: row.name,
            definition: put.definition,
            token: opened.token,
            signing_secrets: opened.signing_secrets,
            headers: opened.bears.headers,
            signers: opened.bears.signers,
            wire_secrets: opened.wire_secrets,
            former: opened.former,
            version: row.version,
            state: row.state,
        };
        known.insert(endpoint.id, Arc::new(endpoint));
        Ok(())
    }

    fn retain(&self, known: &mut Self::Known, there: &HashSet<i32>) {
        known.retain(|id, _| there.contains(id));
    }
}

/// What an endpoint bears.
struct Opened {
    token: Option<SecretString>,
    signing_secrets: Vec<SecretString>,
    bears: Bears,
    wire_secrets: Vec<SecretString>,
    former: Vec<SecretString>,
}

fn open(row: &endpoints::Row, sealer: Option<&Sealer>) -> Result<(PutEndpoint, Opened), Error> {
    let put = PutEndpoint::of(&row.definition)?;
    let reveal = |bytes: &Option<Vec<u8>>, purpose: Purpose<'_>| {
        let Some(bytes) = bytes else { return Ok(None) };
        let secret = Sealed { key_id: row.key_id.clone().unwrap_or_default(), bytes: bytes.clone() };
        let sealer = sealer.ok_or_else(|| anyhow::anyhow!("POSTRIDER_SECRET_KEY is not set"));
        let opened = sealer.and_then(|sealer| Ok(sealer.open(&secret, &purpose.of_store(row.store_id))?));
        opened.map(Some).map_err(Error::Internal)
    };
    let list = |list: Option<SecretString>| {
        let Some(list) = list else { return Ok(Vec::new()) };
        let texts: Vec<String> = serde_json::from_str(list.expose_secret()).map_err(Error::internal)?;
        Ok::<_, Error>(texts.into_iter().map(SecretString::from).collect())
    };
    let token = reveal(&row.token, Purpose::Token(&row.name))?;
    let signing_secrets = list(reveal(&row.secrets, Purpose::SigningSecrets(&row.name))?)?;
    let wire = WireSecrets::read(reveal(&row.wire_secrets, Purpose::WireSecrets(&row.name))?.as_ref());
    let bears = wire.bears(&put.definition)?;
    let wire_secrets = wire.all().map(SecretString::from).collect();
    // Without them it can be served all the same.
    let former = reveal(&row.former, Purpose::FormerSecrets(&row.name)).and_then(list).unwrap_or_default();
    Ok((put, Opened { token, signing_secrets, bears, wire_secrets, former }))
}

/// Why a definition cannot be used, in all its words: they name no secret.
fn reason(why: &Error) -> String {
    match why {
        Error::Invalid(_, violations) => format!("{violations:?}"),
        Error::Internal(error) => format!("{error:#}"),
        other => other.to_string(),
    }
}

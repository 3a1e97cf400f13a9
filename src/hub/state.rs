//! What all routes of the hub share: its parts, and the names that a path has to lead to.

use crate::auth::{Caller, Verifier};
use crate::db::{self, Database};
use crate::error::{Error, Result};
use crate::http::body::BodyLimits;
use crate::http::outbound::Outbound;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::documents::is_name;
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::mapping::Mapping;
use crate::hub::definitions::store::{endpoints as stored, mappings, stores};
use crate::hub::roles::{self, Right};
use crate::seal::{Sealer, no_key};
use crate::traces::Tracer;
use crate::worker::{self, Wake};
use axum::extract::FromRef;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// What the routes of the hub work with.
#[derive(Clone)]
pub struct Hub {
    /// The database.
    pub db: Database,
    /// The endpoints and mappings.
    pub catalog: Arc<Catalog>,
    /// Seals secrets; absent when no key is configured.
    pub sealer: Option<Arc<Sealer>>,
    /// The bell of the engine.
    pub wake: Arc<Wake>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The limits of a body.
    pub limits: BodyLimits,
    /// Asks endpoints.
    pub outbound: Outbound,
    /// Who tries an idempotency key that somebody else holds: few at a time, whose tries take few connections.
    pub held: Arc<Semaphore>,
    /// Makes the spans of deliveries.
    pub tracer: Tracer,
}

/// Where a definition is put.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct Place {
    /// The store.
    pub(in crate::hub) store: i32,
    /// The revision that the catalog gets by it.
    pub(in crate::hub) version: i64,
}

/// How many try held keys at a time.
const TRIES: usize = 2;

impl FromRef<Hub> for Arc<Verifier> {
    fn from_ref(hub: &Hub) -> Self {
        Arc::clone(&hub.verifier)
    }
}

impl Hub {
    /// The state of the routes, with a catalog that knows nothing yet.
    pub fn new(
        db: Database,
        sealer: Option<Arc<Sealer>>,
        wake: Arc<Wake>,
        verifier: Arc<Verifier>,
        limits: BodyLimits,
        outbound: Outbound,
        tracer: Tracer,
    ) -> Self {
        let catalog = Arc::new(Catalog::new(sealer.clone()));
        let held = Arc::new(Semaphore::new(TRIES));
        Self { db, catalog, sealer, wake, verifier, limits, outbound, held, tracer }
    }

    /// The store of this name, for a caller who has this right in it.
    pub(in crate::hub) async fn store(&self, name: &str, caller: &Caller, right: Right) -> Result<i32> {
        roles::require(caller, name, right)?;
        let id = if is_name(name) { stores::id(&self.db.api, name).await? } else { None };
        id.ok_or_else(|| Error::NotFound("there is no such store".to_owned()))
    }

    /// The endpoint of this name, ready to be asked.
    pub(in crate::hub) async fn endpoint(&self, store_id: i32, name: &str) -> Result<Arc<Endpoint>> {
        let id = if is_name(name) { stored::id(&self.db.api, store_id, name).await? } else { None };
        let id = id.ok_or_else(no_endpoint)?;
        self.refresh().await?;
        let broken = || Error::Conflict("this endpoint cannot be used as it is: put it again".to_owned());
        self.catalog.endpoint(id).ok_or_else(broken)
    }

    /// The mapping of this name, and its endpoint, ready to send.
    pub(in crate::hub) async fn mapping(
        &self,
        store_id: i32,
        name: &str,
    ) -> Result<(Arc<Mapping>, Arc<Endpoint>)> {
        let id = if is_name(name) { mappings::id(&self.db.api, store_id, name).await? } else { None };
        let id = id.ok_or_else(no_mapping)?;
        self.refresh().await?;
        let mapping = self.catalog.mapping(id);
        let both =
            mapping.and_then(|mapping| Some((mapping.clone(), self.catalog.endpoint(mapping.endpoint_id)?)));
        both.ok_or_else(|| Error::Conflict("this mapping cannot be used as it is: put it again".to_owned()))
    }

    /// Puts a definition of a store in one transaction, and has every process read it. The first one makes the store.
    pub(in crate::hub) async fn define<T: Send + 'static>(
        &self,
        store: String,
        put: impl for<'c> FnOnce(&'c mut PgConnection, Place) -> BoxFuture<'c, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = db::transaction::<_, Error, _>(&self.db.api, move |tx| {
            Box::pin(async move {
                let version = worker::store::bump(&mut *tx).await?;
                let store = stores::ensure(&mut *tx, &store).await?;
                put(tx, Place { store, version }).await
            })
        })
        .await?;
        self.changed().await?;
        Ok(done)
    }

    /// Learns of every definition that is committed by now.
    pub(in crate::hub) async fn refresh(&self) -> Result<()> {
        let revision = worker::store::revision(&self.db.api).await?;
        self.catalog.refresh(&self.db.api, revision).await?;
        Ok(())
    }

    /// Tells this process and the others that a definition changed. Returns when this process knows.
    pub(in crate::hub) async fn changed(&self) -> Result<()> {
        self.refresh().await?;
        self.wake.look_everywhere();
        Ok(())
    }

    /// The database's time.
    pub(in crate::hub) fn now(&self) -> Result<DateTime<Utc>> {
        let unknown = || {
            let words = "the database's time is not known yet".to_owned();
            Error::Unavailable(words, Duration::from_secs(1))
        };
        self.db.ids.now().ok_or_else(unknown)
    }

    /// What seals secrets.
    pub(in crate::hub) fn sealer(&self) -> Result<Arc<Sealer>> {
        self.sealer.clone().ok_or_else(|| no_key("a secret"))
    }
}

/// The id in a path; what is no id names nothing.
pub(in crate::hub) fn id_of(text: &str, missing: impl FnOnce() -> Error) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| missing())
}

/// 404: the store has no such endpoint.
pub(in crate::hub) fn no_endpoint() -> Error {
    Error::NotFound("there is no such endpoint in this store".to_owned())
}

/// 404: the store has no such mapping.
pub(in crate::hub) fn no_mapping() -> Error {
    Error::NotFound("there is no such mapping in this store".to_owned())
}

//! Why a delivery is not running: its facts, in one short transaction, and what follows from them.

mod reasons;
mod waits;

use super::store::why as store;
use crate::db;
use crate::flow::circuit::Breaker;
use crate::flow::rate::Rate;
use crate::hub::definitions::catalog::Catalog;
use crate::worker::store::why as engine;
use crate::worker::why::{ItemKind, Why, is_held};
use chrono::{DateTime, Utc};
use reasons::reasons;
use sqlx::postgres::{PgConnection, PgPool};
use std::sync::Arc;
use uuid::Uuid;

/// What is to be known of a delivery.
#[derive(Debug, Clone)]
struct Facts {
    now: DateTime<Utc>,
    id: Uuid,
    store: String,
    row: store::Row,
    /// The service of its mapping; `None` where the mapping is gone, or this program cannot read it.
    service: Option<String>,
    /// How its endpoint is to be treated; `None` as above.
    terms: Option<Terms>,
    held: Option<engine::Held>,
    scheduled: Option<DateTime<Utc>>,
    last: Option<store::Last>,
    line: Option<store::InLine>,
    part: Option<store::Service>,
    processes: Vec<engine::Process>,
    taken: engine::Taken,
    ahead: Option<engine::Ahead>,
}

/// How an endpoint is to be treated.
#[derive(Debug, Clone, Copy)]
struct Terms {
    enabled: bool,
    concurrency: usize,
    breaker: Breaker,
    rate: Option<Rate>,
}

/// A store, by its number and its name.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its number.
    pub id: i32,
    /// Its name in the API.
    pub name: String,
}

/// Why a delivery of a store is not running, by what `catalog` knows; `None` when there is no such delivery.
///
/// # Errors
/// The database's.
pub async fn why(pool: &PgPool, catalog: Arc<Catalog>, of: Store, id: Uuid) -> sqlx::Result<Option<Why>> {
    let see = format!("/stores/{}/deliveries/{id}", of.name);
    let facts = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move {
            engine::begin(&mut *tx).await?;
            let Some(facts) = read(&mut *tx, &catalog, &of, id).await? else { return Ok(None) };
            // The head of a line waits in none.
            let head = match &facts.line {
                Some(line) => read(tx, &catalog, &of, line.head).await?,
                None => None,
            };
            Ok(Some((facts, head)))
        })
    });
    Ok(facts.await?.map(|(facts, head)| {
        let head = head.map(|head| reasons(&head, Vec::new()));
        let (status, at) = (facts.status(), facts.now);
        Why::new(ItemKind::Delivery, see, status, at, reasons(&facts, head.unwrap_or_default()))
    }))
}

impl Facts {
    fn status(&self) -> String {
        if self.held.is_some() { "INPROGRESS".to_owned() } else { self.row.status.clone() }
    }

    fn is_pending(&self) -> bool {
        self.row.status == "PENDING"
    }
}

async fn read(tx: &mut PgConnection, catalog: &Catalog, of: &Store, id: Uuid) -> sqlx::Result<Option<Facts>> {
    let now = engine::now(&mut *tx).await?;
    let Some(row) = store::row(&mut *tx, of.id, id).await? else { return Ok(None) };
    let mapping = catalog.mapping(row.mapping_id);
    let terms = catalog.endpoint(row.lane).map(|endpoint| {
        let definition = &endpoint.definition;
        let (enabled, concurrency) = (definition.enabled, definition.concurrency);
        Terms { enabled, concurrency, breaker: definition.breaker, rate: definition.rate }
    });
    let mut facts = Facts {
        now,
        id,
        store: of.name.clone(),
        row,
        service: mapping.map(|mapping| mapping.definition.service.clone()),
        terms,
        held: None,
        scheduled: None,
        last: None,
        line: None,
        part: None,
        processes: Vec::new(),
        taken: engine::Taken::default(),
        ahead: None,
    };
    if !facts.is_pending() {
        return Ok(Some(facts));
    }
    let lane = facts.row.lane;
    let lanes = store::lanes(&mut *tx, of.id).await?;
    let held = engine::held(&mut *tx, &lanes, id).await?;
    let leases: Vec<Uuid> = held.iter().map(|held| held.lease).collect();
    let mut ended = store::ended(&mut *tx, id, &leases).await?;
    ended.extend(facts.row.returned_by);
    facts.held = is_held(&held, &ended).cloned();
    if facts.held.is_some() {
        return Ok(Some(facts));
    }
    facts.processes = engine::processes(&mut *tx).await?;
    facts.line = store::in_line(&mut *tx, id).await?;
    if facts.line.is_some() || facts.row.is_held_back {
        return Ok(Some(facts));
    }
    facts.scheduled = engine::scheduled(&mut *tx, id).await?.map(|(run_at, _)| run_at);
    facts.last = store::last_attempt(&mut *tx, id).await?;
    if let Some(service) = &facts.service {
        facts.part = store::service(&mut *tx, lane, service).await?;
    }
    if facts.scheduled.is_none() {
        facts.taken = store::taken(&mut *tx, lane).await?;
        facts.ahead = engine::ahead(tx, lane, 0, id).await?;
    }
    Ok(Some(facts))
}

//! The facts of a delivery, and the reading of them.

use crate::flow::circuit::Breaker;
use crate::flow::rate::Rate;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::delivery::store::why as store;
use crate::worker::store::why as engine;
use crate::worker::why::is_held;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// What is to be known of a delivery.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: DateTime<Utc>,
    pub(super) id: Uuid,
    pub(super) store: String,
    pub(super) row: store::Row,
    /// The service of its mapping; `None` where the mapping is gone, or this program cannot read it.
    pub(super) service: Option<String>,
    /// How its endpoint is to be treated; `None` as above.
    pub(super) terms: Option<Terms>,
    pub(super) held: Option<engine::Held>,
    pub(super) scheduled: Option<DateTime<Utc>>,
    pub(super) last: Option<store::Last>,
    pub(super) line: Option<store::InLine>,
    pub(super) part: Option<store::Service>,
    pub(super) processes: Vec<engine::Process>,
    /// The keys of the passwords that it is sent, each with the name of the parameter.
    pub(super) passwords: Vec<(String, String)>,
    pub(super) taken: engine::Taken,
    pub(super) ahead: Option<engine::Ahead>,
}

/// How an endpoint is to be treated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) enabled: bool,
    pub(super) concurrency: usize,
    pub(super) breaker: Breaker,
    pub(super) rate: Option<Rate>,
}

/// A store, by its number and its name.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its number.
    pub id: i32,
    /// Its name in the API.
    pub name: String,
}

impl Facts {
    /// Its status.
    pub(super) fn status(&self) -> String {
        if self.held.is_some() { "INPROGRESS".to_owned() } else { self.row.status.clone() }
    }

    /// Whether it has not ended.
    pub(super) fn is_pending(&self) -> bool {
        self.row.status == "PENDING"
    }
}

/// Reads the facts of a delivery; `None` when there is no such delivery.
pub(super) async fn read(
    tx: &mut PgConnection,
    catalog: &Catalog,
    of: &Store,
    id: Uuid,
) -> sqlx::Result<Option<Facts>> {
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
        service: mapping.as_ref().map(|mapping| mapping.definition.service.clone()),
        terms,
        held: None,
        scheduled: None,
        last: None,
        line: None,
        part: None,
        processes: Vec::new(),
        passwords: Vec::new(),
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
    if let Some(held) = &facts.held {
        if held.is_silent {
            facts.processes = engine::processes(tx).await?;
        }
        return Ok(Some(facts));
    }
    facts.processes = engine::processes(&mut *tx).await?;
    if let Some(mapping) = &mapping {
        let names = &mapping.definition.parameters;
        facts.passwords = store::passwords(&mut *tx, (of.id, mapping.id), names).await?;
    }
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

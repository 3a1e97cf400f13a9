//! Routing: which mappings a message goes to, and, where a transaction stores it with other things, the writing of that.

use super::message::{Draft, MAX_HOPS, State};
use super::store::fanout::{self, Delivery, Place};
use super::{identifiers, lineage};
use crate::db::Ids;
use crate::flow::store::lines;
use crate::http::json_text::to_value;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::mapping::{Mapping, Serial};
use crate::hub::definitions::store::mappings;
use crate::hub::key::is_key;
use crate::hub::parked_by::ParkedBy;
use crate::worker::{Wake, store as engine};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The longest that a message waits before it is routed.
const LONGEST_DELAY: Duration = Duration::from_hours(10 * 366 * 24);
/// The longest key, in characters.
const LONGEST_KEY: usize = 255;

/// What became of messages. After the commit the lanes in `ready` are to be woken, and the engine told of
/// `soonest`.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Where each message stands.
    pub states: HashMap<Uuid, State>,
    /// Lanes in which something became ready.
    pub ready: Vec<i32>,
    /// After which time the first message that waits for one is due.
    pub soonest: Option<Duration>,
    /// Deliveries that were made and are not sent by themselves.
    pub unsent: Vec<Unsent>,
}

/// A delivery that was parked as it was made.
#[derive(Debug)]
pub struct Unsent {
    /// The delivery.
    pub delivery: Uuid,
    /// The lane of its endpoint.
    pub lane: i32,
    /// Its store.
    pub store_id: i32,
    /// Its message.
    pub message: Uuid,
    /// Why.
    pub reason: String,
}

impl Unsent {
    fn of(delivery: &Delivery) -> Option<Self> {
        Some(Self {
            delivery: delivery.id,
            lane: delivery.lane,
            store_id: delivery.store_id,
            message: delivery.message_id,
            reason: delivery.parked.as_ref()?.1.clone(),
        })
    }
}

impl Accepted {
    /// Rings for what became ready, and for what will be due. To be called after the commit.
    pub fn ring(&self, wake: &Wake) {
        for lane in &self.ready {
            wake.ready(*lane, 0);
        }
        if let Some(soonest) = self.soonest {
            wake.due_after(soonest);
        }
    }
}

/// Stores messages, and makes a delivery of each for every mapping of its store that wants it.
///
/// # Errors
/// The database's; 40001 and 40P01 mean that another try may succeed.
pub async fn accept(
    tx: &mut PgConnection,
    catalog: &Catalog,
    ids: &Ids,
    drafts: Vec<Draft>,
) -> sqlx::Result<Accepted> {
    let (routed, deliveries) = decide_all(&mut *tx, catalog, ids, drafts).await?;
    if routed.is_empty() {
        return Ok(Accepted::default());
    }
    fanout::insert_messages(&mut *tx, &routed).await?;
    let delays = routed.iter().filter(|(_, state)| *state == State::Pending).map(|(draft, _)| draft.delay);
    let soonest = delays.min();
    let unsent = deliveries.iter().filter_map(Unsent::of).collect();
    let ready = place(tx, deliveries).await?;
    Ok(Accepted { states: states(&routed), ready, soonest, unsent })
}

/// A poll message of a mapping's schedule.
#[derive(Debug)]
pub struct Poll<'a> {
    /// The mapping, which alone gets it, whatever messages it takes.
    pub mapping: &'a Mapping,
    /// The message.
    pub id: Uuid,
    /// Its key.
    pub key: &'a str,
}

/// Stores poll messages, each for its mapping. Returns the lanes in which something became ready.
///
/// # Errors
/// As [`accept`].
pub async fn poll(tx: &mut PgConnection, ids: &Ids, polls: &[Poll<'_>]) -> sqlx::Result<Vec<i32>> {
    if polls.is_empty() {
        return Ok(Vec::new());
    }
    let (mut drafts, mut deliveries) = (Vec::with_capacity(polls.len()), Vec::with_capacity(polls.len()));
    for Poll { mapping, id, key } in polls {
        let message = json!({ "message": key, "message_id": id, "payload": {} });
        deliveries.push(Delivery {
            id: ids.next(),
            store_id: mapping.store_id,
            message_id: *id,
            mapping_id: mapping.id,
            lane: mapping.endpoint_id,
            enabled: mapping.enabled,
            parked: None,
            identifiers: None,
            line: identifiers::line(&mapping.definition.options.serial, &message),
        });
        let payload = serde_json::value::to_raw_value(&message["payload"]).unwrap_or_default();
        let draft = Draft::from_outside(*id, mapping.store_id, (*key).to_owned(), payload);
        drafts.push((draft, State::Routed));
    }
    fanout::insert_messages(&mut *tx, &drafts).await?;
    place(tx, deliveries).await
}

/// Routes messages that are stored already and waited for it. One that somebody has routed is left alone.
///
/// # Errors
/// As [`accept`].
pub async fn route_pending(
    tx: &mut PgConnection,
    catalog: &Catalog,
    ids: &Ids,
    messages: &[Uuid],
) -> sqlx::Result<Accepted> {
    let drafts = fanout::pending(&mut *tx, messages).await?;
    let (routed, deliveries) = decide_all(&mut *tx, catalog, ids, drafts).await?;
    if routed.is_empty() {
        return Ok(Accepted::default());
    }
    fanout::set_states(&mut *tx, &routed).await?;
    // What waited has come through nothing, and nobody holds it back.
    let ready = place(tx, deliveries).await?;
    Ok(Accepted { states: states(&routed), ready, soonest: None, unsent: Vec::new() })
}

fn states(routed: &[(Draft, State)]) -> HashMap<Uuid, State> {
    routed.iter().map(|(draft, state)| (draft.id, *state)).collect()
}

async fn decide_all(
    tx: &mut PgConnection,
    catalog: &Catalog,
    ids: &Ids,
    drafts: Vec<Draft>,
) -> sqlx::Result<(Vec<(Draft, State)>, Vec<Delivery>)> {
    let stores: BTreeSet<i32> = drafts.iter().map(|draft| draft.store_id).collect();
    let mappings = current(tx, catalog, stores).await?;
    let (mut routed, mut deliveries) = (Vec::with_capacity(drafts.len()), Vec::new());
    for draft in drafts {
        let of_store = mappings.get(&draft.store_id).map_or(&[][..], Vec::as_slice);
        let (draft, state, wanted) = decide(draft, of_store, ids);
        deliveries.extend(wanted);
        routed.push((draft, state));
    }
    Ok((routed, deliveries))
}

/// Decides where a message stands by these mappings, those of its store, and which deliveries it makes.
pub(super) fn decide(
    mut draft: Draft,
    mappings: &[Arc<Mapping>],
    ids: &Ids,
) -> (Draft, State, Vec<Delivery>) {
    // Asked of the key as it came: what makes it storable may make it look like a good one.
    draft.parked = draft.parked.take().or_else(|| unroutable(&draft).map(str::to_owned));
    draft.key = storable(draft.key);
    draft.delay = draft.delay.min(LONGEST_DELAY);
    let wanted = if draft.parked.is_none() && draft.delay.is_zero() {
        wanted(&draft, mappings, ids).unwrap_or_else(|why| {
            draft.parked = Some(why.to_owned());
            Vec::new()
        })
    } else {
        Vec::new()
    };
    let state = match () {
        () if draft.parked.is_some() => State::Parked,
        () if !draft.delay.is_zero() => State::Pending,
        () if wanted.is_empty() => State::Unrouted,
        () => State::Routed,
    };
    (draft, state, wanted)
}

/// The mappings of these stores. What this process knows may be older than a change that somebody was told of:
/// then the database is asked.
async fn current(
    tx: &mut PgConnection,
    catalog: &Catalog,
    stores: BTreeSet<i32>,
) -> sqlx::Result<HashMap<i32, Vec<Arc<Mapping>>>> {
    let mut found: HashMap<i32, Vec<Arc<Mapping>>> = HashMap::new();
    if stores.is_empty() {
        return Ok(found);
    }
    if catalog.revision() >= engine::revision(&mut *tx).await? {
        found.extend(stores.into_iter().map(|store| (store, catalog.of_store(store))));
        return Ok(found);
    }
    let stores: Vec<i32> = stores.into_iter().collect();
    for row in mappings::of_stores(tx, &stores).await? {
        let store = row.store_id;
        found.entry(store).or_default().extend(catalog.compiled(row));
    }
    Ok(found)
}

/// A key as the database can keep it, however broken.
fn storable(key: String) -> String {
    if is_key(&key) {
        return key;
    }
    let key: String = key.chars().filter(|c| *c != '\0').take(LONGEST_KEY).collect();
    if key.is_empty() { "?".to_owned() } else { key }
}

/// Why a message is parked whatever the mappings are.
fn unroutable(draft: &Draft) -> Option<&'static str> {
    if !is_key(&draft.key) {
        Some("its key is not one such as order:new or invoice.created")
    } else if draft.hop > MAX_HOPS {
        Some("too many hops: services answer each other in circles")
    } else if !draft.payload.get().starts_with('{') {
        Some("its payload is not an object")
    } else {
        None
    }
}

/// The deliveries of a message, in the order of the mappings' names.
///
/// # Errors
/// Why nobody can look into it.
fn wanted(draft: &Draft, mappings: &[Arc<Mapping>], ids: &Ids) -> Result<Vec<Delivery>, &'static str> {
    let mut document: Option<Value> = None;
    let mut deliveries = Vec::new();
    for mapping in mappings {
        let definition = &mapping.definition;
        if !definition.messages.iter().any(|pattern| pattern.matches(&draft.key)) {
            continue;
        }
        let looks_inside = !definition.filters.is_empty()
            || !definition.identifiers.is_empty()
            || matches!(definition.options.serial, Serial::By(_));
        if looks_inside && document.is_none() {
            let payload =
                to_value(draft.payload.get()).ok_or("its payload nests too deep to be looked into")?;
            document = Some(json!({ "message": draft.key, "message_id": draft.id, "payload": payload }));
        }
        let message = document.as_ref().unwrap_or(&Value::Null);
        if !definition.filters.hold(message) {
            continue;
        }
        let again = || Some((ParkedBy::Loop, lineage::loops(&draft.visits, &draft.key, mapping)?));
        let parked = draft.held_back.clone().or_else(again);
        // What is not sent has taken nothing: the same may come another way.
        let identifiers =
            if parked.is_none() { identifiers::digest(&definition.identifiers, message) } else { None };
        deliveries.push(Delivery {
            id: ids.next(),
            store_id: draft.store_id,
            message_id: draft.id,
            mapping_id: mapping.id,
            lane: mapping.endpoint_id,
            enabled: mapping.enabled,
            parked,
            identifiers,
            line: identifiers::line(&definition.options.serial, message),
        });
    }
    Ok(deliveries)
}

/// Finds each delivery its place and writes it; returns the lanes in which something became ready.
async fn place(tx: &mut PgConnection, deliveries: Vec<Delivery>) -> sqlx::Result<Vec<i32>> {
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let duplicates = fanout::claim_identifiers(&mut *tx, &deliveries).await?;
    let off: BTreeSet<i32> = deliveries
        .iter()
        .filter(|delivery| !delivery.enabled && delivery.parked.is_none())
        .map(|delivery| delivery.mapping_id)
        .collect();
    let off: Vec<i32> = off.into_iter().collect();
    let disabled = fanout::lock_disabled(&mut *tx, &off).await?;
    let runs = |delivery: &Delivery| {
        delivery.parked.is_none()
            && !duplicates.contains_key(&delivery.id)
            && !disabled.contains(&delivery.mapping_id)
    };
    let lines: Vec<_> = deliveries
        .iter()
        .filter(|delivery| runs(delivery))
        .filter_map(|delivery| Some((delivery.mapping_id, delivery.line?, delivery.id)))
        .collect();
    let heads = lines::join_all(&mut *tx, &lines).await?;
    let placed: Vec<(Delivery, Place)> = deliveries
        .into_iter()
        .map(|delivery| {
            let place = match duplicates.get(&delivery.id) {
                _ if delivery.parked.is_some() => Place::Parked,
                Some(first) => Place::Duplicate(*first),
                None if disabled.contains(&delivery.mapping_id) => Place::Held,
                None if delivery.line.is_some() && !heads.contains(&delivery.id) => Place::Waits,
                None => Place::Ready,
            };
            (delivery, place)
        })
        .collect();
    fanout::insert_deliveries(tx, &placed).await?;
    let ready: BTreeSet<i32> = placed
        .iter()
        .filter(|(_, place)| *place == Place::Ready)
        .map(|(delivery, _)| delivery.lane)
        .collect();
    Ok(ready.into_iter().collect())
}

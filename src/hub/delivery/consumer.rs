//! Deliveries as the engine sees them: the lanes of endpoints, and what makes a claimed delivery ready to run.

use super::attempt::{Attempt, Means};
use super::linked::Parameter;
use super::outcome::{Attempted, Outcome};
use super::request;
use super::store::deliveries::{self, Loaded};
use super::store::{ends, parameters};
use super::streaks::Doomed;
use super::verdict::{Failed, Verdict};
use crate::db::by_id::{HashMap, HashSet};
use crate::db::{Database, bounded};
use crate::flow::circuits::Circuits;
use crate::flow::rates::{Rates, Slot};
use crate::flow::store::circuits;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::endpoint::Endpoint;
use crate::hub::definitions::mapping::{Mapping, Retry};
use crate::hub::parked_by::ParkedBy;
use crate::hub::state::Hub;
use crate::seal::Sealer;
use crate::worker::{Claim, Consumer, Ended, Holding, Lane, Run, Settled};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use url::Url;
use uuid::Uuid;

/// What cannot run here now, though nothing is wrong with it, is looked at again after this time.
const NOT_HERE: Duration = Duration::from_secs(10);

/// The consumer of deliveries.
pub struct Deliveries {
    pub(super) db: Database,
    pub(super) catalog: Arc<Catalog>,
    pub(super) sealer: Option<Arc<Sealer>>,
    /// The backoff of mappings that name none.
    pub(super) retry: Retry,
    /// How many messages may come of one from outside.
    pub(super) descendants: u32,
    pub(super) means: Arc<Means>,
    /// Who switches endpoints off.
    pub(super) doomed: UnboundedSender<Doomed>,
    /// The rate limits of endpoints.
    rates: Rates,
}

/// A delivery that may be sent now.
pub(super) struct Ready {
    pub(super) claim: Claim,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) mapping: Arc<Mapping>,
    loaded: Loaded,
    message: deliveries::Message,
}

impl Deliveries {
    /// A consumer that sends as the hub does, and again after `retry` where a mapping does not say. Of one message from
    /// outside so many `descendants` may come. Endpoints that failed for too long go to `doomed`.
    pub fn new(hub: &Hub, retry: Retry, descendants: u32, doomed: UnboundedSender<Doomed>) -> Self {
        let Hub { db, catalog, sealer, outbound, tracer, .. } = hub.clone();
        let means = Means {
            outbound,
            catalog: Arc::clone(&catalog),
            ids: Arc::clone(&db.ids),
            circuits: Circuits::default(),
            tracer,
        };
        let (means, rates) = (Arc::new(means), Rates::default());
        Self { db, catalog, sealer, retry, descendants, means, doomed, rates }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.db.ids.now().unwrap_or_default()
    }

    /// How many deliveries of an endpoint may run now.
    fn room(&self, endpoint: &Endpoint) -> Option<usize> {
        let (now, definition) = (self.now(), &endpoint.definition);
        if !definition.enabled {
            return None;
        }
        let most = definition.rate.map_or(Some(usize::MAX), |rate| self.rates.room(endpoint.id, rate))?;
        self.means.circuits.of(endpoint.guarded()).room(
            definition.concurrency.min(most),
            definition.breaker,
            now,
        )
    }

    fn lane_of(&self, endpoint: &Endpoint) -> Option<Lane> {
        self.room(endpoint).map(|concurrency| Lane { id: endpoint.id, concurrency, yields: true })
    }

    /// Learns what other processes have written of the circuits of these lanes, unless they have changed just as often as
    /// is known.
    async fn adopt_circuits(&self, lanes: &[i32], changes: i64) -> sqlx::Result<()> {
        let known: Vec<Arc<Endpoint>> =
            lanes.iter().filter_map(|lane| self.catalog.endpoint(*lane)).collect();
        if self.means.circuits.changes(known.iter().map(|endpoint| endpoint.guarded())) == changes {
            return Ok(());
        }
        self.adopt(lanes).await
    }

    /// Learns what is written of the circuits of these lanes.
    pub(super) async fn adopt(&self, lanes: &[i32]) -> sqlx::Result<()> {
        for (id, written) in bounded(circuits::written(&self.db.worker, lanes)).await? {
            self.means.circuits.adopt(id, written);
        }
        Ok(())
    }

    /// After which time the circuit of an endpoint lets a delivery try; `None` unless it is open.
    fn closes_after(&self, endpoint: &Endpoint) -> Option<Duration> {
        let now = self.db.ids.now()?;
        let until = self.means.circuits.of(endpoint.guarded()).open_until.filter(|until| now < *until)?;
        Some((until - now).to_std().unwrap_or_default().min(endpoint.definition.breaker.cooldown))
    }

    /// What a loaded delivery needs to be sent, or how it ends without that. `unreadable` are mappings
    /// that are there and not in the catalog: their definition is of another version of Postrider.
    fn prepare(
        &self,
        claim: Claim,
        mut loaded: Loaded,
        unreadable: &[i32],
    ) -> Result<Ready, (Claim, Outcome)> {
        let back = |lane, after| Outcome::NotStarted { lane, after };
        let Some(message) = loaded.message.take() else {
            return Err((claim, Outcome::Parked(ParkedBy::MessageGone, "the message is not there any more")));
        };
        let Some(mapping) = self.catalog.mapping(loaded.delivery.mapping_id) else {
            let outcome = if unreadable.contains(&loaded.delivery.mapping_id) {
                back(claim.lane, NOT_HERE)
            } else {
                Outcome::Parked(ParkedBy::MappingDeleted, "the mapping was deleted")
            };
            return Err((claim, outcome));
        };
        if !mapping.enabled {
            return Err((claim, Outcome::Held));
        }
        if mapping.endpoint_id != claim.lane {
            return Err((claim, back(mapping.endpoint_id, Duration::ZERO)));
        }
        let enabled = |endpoint: &Arc<Endpoint>| endpoint.definition.enabled;
        let Some(endpoint) = self.catalog.endpoint(claim.lane).filter(enabled) else {
            let outcome = back(claim.lane, NOT_HERE);
            return Err((claim, outcome));
        };
        if let Some(after) = self.closes_after(&endpoint) {
            let outcome = back(claim.lane, after);
            return Err((claim, outcome));
        }
        Ok(Ready { claim, endpoint, mapping, loaded, message })
    }

    /// Those mappings of these deliveries that this process cannot use, though nobody deleted them.
    async fn unreadable(&self, loaded: &[Loaded]) -> sqlx::Result<Vec<i32>> {
        let mapping = |loaded: &Loaded| loaded.delivery.mapping_id;
        let unknown: HashSet<i32> =
            loaded.iter().map(mapping).filter(|id| self.catalog.mapping(*id).is_none()).collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let unknown: Vec<i32> = unknown.into_iter().collect();
        bounded(deliveries::living(&self.db.worker, &unknown)).await
    }

    /// The parameters of the mappings of these deliveries; `None` where this process has no key to one of them.
    async fn parameters(&self, ready: &[Ready]) -> sqlx::Result<HashMap<i32, Option<Arc<Vec<Parameter>>>>> {
        let mut mappings: HashMap<i32, &Ready> = HashMap::default();
        for ready in ready {
            let has_some = ready.loaded.learns || !ready.mapping.definition.parameters.is_empty();
            has_some.then(|| mappings.insert(ready.mapping.id, ready));
        }
        if mappings.is_empty() {
            return Ok(HashMap::default());
        }
        let mut named = Vec::new();
        for Ready { mapping, .. } in mappings.values() {
            named.extend(
                mapping
                    .definition
                    .parameters
                    .iter()
                    .map(|name| (mapping.id, mapping.store_id, name.as_str())),
            );
        }
        let ids: Vec<i32> = mappings.keys().copied().collect();
        let stored = bounded(parameters::linked(&self.db.worker, &named, &ids)).await?;
        let mut found: HashMap<i32, Option<Vec<Parameter>>> = HashMap::default();
        for stored in stored {
            let mapping = stored.mapping_id;
            let sent = found.entry(mapping).or_insert_with(|| Some(Vec::new()));
            let Some(parameters) = sent else { continue };
            match stored.parameter(self.sealer.as_deref()) {
                Ok(parameter) => parameters.push(parameter),
                Err(why) => {
                    tracing::error!(
                        mapping,
                        why,
                        "the deliveries of a mapping wait for a process that has the key"
                    );
                    *sent = None;
                }
            }
        }
        Ok(found.into_iter().map(|(mapping, sent)| (mapping, sent.map(Arc::new))).collect())
    }

    /// The slots of those deliveries whose endpoints have a rate limit.
    async fn slots(&self, ready: &[Ready]) -> sqlx::Result<HashMap<Uuid, Slot>> {
        let mut limited: HashMap<i32, Vec<&Ready>> = HashMap::default();
        for ready in ready.iter().filter(|ready| ready.endpoint.definition.rate.is_some()) {
            limited.entry(ready.endpoint.id).or_default().push(ready);
        }
        let mut slots = HashMap::default();
        for (id, ready) in limited {
            let Some(rate) = ready[0].endpoint.definition.rate else { continue };
            let reserved = self.rates.reserve(&self.db.worker, id, rate, ready.len()).await?;
            slots.extend(ready.iter().map(|ready| ready.claim.item).zip(reserved));
        }
        Ok(slots)
    }
}

impl Consumer for Deliveries {
    type Outcome = Outcome;

    async fn refresh(&self, revision: i64) -> sqlx::Result<()> {
        self.catalog.refresh(&self.db.worker, revision).await?;
        let here = |id| self.catalog.endpoint(id).is_some();
        self.means.circuits.retain(here);
        self.rates.retain(here);
        Ok(())
    }

    fn lanes(&self) -> Vec<Lane> {
        let mut lanes = Vec::new();
        self.catalog.each_endpoint(|endpoint| lanes.extend(self.lane_of(endpoint)));
        lanes
    }

    fn lane(&self, id: i32) -> Option<Lane> {
        self.catalog.endpoint(id).and_then(|endpoint| self.lane_of(&endpoint))
    }

    fn owns(&self, lane: i32) -> bool {
        self.catalog.endpoint(lane).is_some()
    }

    fn all(&self) -> Vec<i32> {
        let mut all = Vec::new();
        self.catalog.each_endpoint(|endpoint| all.push(endpoint.id));
        all
    }

    async fn load(&self, claims: Vec<Claim>, holding: &Holding) -> sqlx::Result<Vec<Run<Outcome>>> {
        let lanes: HashSet<i32> = claims.iter().map(|claim| claim.lane).collect();
        let lanes: Vec<i32> = lanes.into_iter().collect();
        let (newest, loaded) = bounded(deliveries::load(&self.db.worker, &claims, &lanes)).await?;
        // A delivery claimed after a change runs under what the change says.
        if newest.revision > self.catalog.revision() {
            self.catalog.refresh(&self.db.worker, newest.revision).await?;
        }
        self.adopt_circuits(&lanes, newest.circuits).await?;
        let unreadable = self.unreadable(&loaded).await?;
        let mut loaded: HashMap<Uuid, Loaded> =
            loaded.into_iter().map(|loaded| (loaded.delivery.id, loaded)).collect();
        let (mut ready, mut runs) = (Vec::new(), Vec::new());
        for claim in claims {
            let Some(loaded) = loaded.remove(&claim.item) else { continue };
            match self.prepare(claim, loaded, &unreadable) {
                Ok(delivery) => ready.push(delivery),
                Err((claim, outcome)) => {
                    runs.push(Run { claim, attempt: Box::pin(std::future::ready(outcome)) });
                }
            }
        }
        let (ready, waiting) = self.admit(ready).await?;
        for (claim, outcome) in waiting {
            runs.push(Run { claim, attempt: Box::pin(std::future::ready(outcome)) });
        }
        let parameters = self.parameters(&ready).await?;
        let slots = self.slots(&ready).await?;
        let none = Some(Arc::new(Vec::new()));
        let mut services: HashMap<(i32, i64, i64), Arc<Url>> = HashMap::default();
        let mut fanouts: HashMap<i32, usize> = HashMap::default();
        for Ready { claim, endpoint, mapping, loaded, message } in ready {
            let Some(parameters) = parameters.get(&mapping.id).unwrap_or(&none) else {
                let outcome = Outcome::NotStarted { lane: claim.lane, after: NOT_HERE };
                runs.push(Run { claim, attempt: Box::pin(std::future::ready(outcome)) });
                continue;
            };
            let wait = match slots.get(&claim.item) {
                None => Duration::ZERO,
                Some(Slot::Granted(wait)) => *wait,
                Some(Slot::Refused(after)) => {
                    let outcome = Outcome::NotStarted { lane: claim.lane, after: *after };
                    runs.push(Run { claim, attempt: Box::pin(std::future::ready(outcome)) });
                    continue;
                }
            };
            let service =
                services.entry((mapping.id, mapping.version, endpoint.version)).or_insert_with(|| {
                    Arc::new(request::url(&endpoint.definition.url, &mapping.definition.service))
                });
            let fanout = fanouts.entry(mapping.store_id);
            let hold = holding.of(claim.lease);
            let tried = claim.tried(loaded.delivery.message_id);
            let attempt = Attempt {
                trace: self.means.tracer.attempt(message.trace.as_ref(), tried),
                fanout: *fanout.or_insert_with(|| self.catalog.mappings_of(mapping.store_id)),
                service: Arc::clone(service),
                means: Arc::clone(&self.means),
                parameters: Arc::clone(parameters),
                endpoint,
                mapping,
                delivery: loaded.delivery,
                message,
                continue_url: loaded.continue_url,
                wait,
                hold,
            };
            runs.push(Run { claim, attempt: Box::pin(attempt.run()) });
        }
        Ok(runs)
    }

    async fn settle(&self, tx: &mut PgConnection, ended: &[&Ended<Outcome>]) -> sqlx::Result<Settled> {
        self.write(tx, ended).await
    }

    fn weight(outcome: &Outcome) -> usize {
        outcome.weight()
    }

    fn refused(&self, outcome: Option<&Outcome>, _error: &sqlx::Error) -> Outcome {
        let error = "the database will not take what the endpoint answered";
        let Some(Outcome::Attempted(attempted)) = outcome else {
            return Outcome::Attempted(Box::new(Attempted::failed(error)));
        };
        // An endpoint that took the message did its work: asked again, it would only answer the same.
        let is_final = matches!(attempted.verdict, Verdict::Delivered(_));
        Outcome::Attempted(Box::new(Attempted {
            mapping: attempted.mapping.clone(),
            version: attempted.version,
            status: attempted.status,
            took: attempted.took,
            sent_at: attempted.sent_at,
            verdict: Verdict::Failed(Failed { is_final, ..Failed::new(error) }),
            ..Attempted::failed(error)
        }))
    }

    fn panicked(&self, _message: &str) -> Outcome {
        Outcome::Attempted(Box::new(Attempted::failed("the attempt panicked")))
    }

    fn given_back(&self) -> Outcome {
        Outcome::GivenBack
    }

    async fn lost(&self, tx: &mut PgConnection, claims: Vec<Claim>) -> sqlx::Result<Vec<Ended<Outcome>>> {
        let unfinished: HashSet<(Uuid, Uuid)> =
            deliveries::unfinished(tx, &claims).await?.into_iter().collect();
        Ok(claims
            .into_iter()
            .filter(|claim| unfinished.contains(&(claim.item, claim.lease)))
            .map(|claim| Ended { claim, outcome: Some(Outcome::Lost) })
            .collect())
    }

    async fn written(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Outcome>],
    ) -> sqlx::Result<Vec<(Uuid, Uuid)>> {
        let claims: Vec<(Uuid, Uuid)> = ended.iter().map(|end| (end.claim.item, end.claim.lease)).collect();
        let stored = ends::stored(tx, &claims).await?;
        let stored: HashMap<(Uuid, Uuid), Option<ends::Verdict>> =
            stored.into_iter().map(|(item, lease, verdict)| ((item, lease), verdict)).collect();
        let is_there = |end: &Ended<Outcome>| {
            let found = stored.get(&(end.claim.item, end.claim.lease));
            found.is_some_and(|found| end.outcome.as_ref().is_some_and(|said| said.verdict() == *found))
        };
        Ok(ended.iter().filter(|end| is_there(end)).map(|end| (end.claim.lease, end.claim.item)).collect())
    }
}

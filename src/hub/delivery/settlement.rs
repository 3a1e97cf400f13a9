//! The one transaction in which the ends of attempts take effect: attempts, deliveries, children, parameters, log
//! entries, lines, circuits.
//!
//! A delivery that is done needs nothing but what was read when it was claimed: while its lease is there, nobody else
//! ends it. It is completed without a look at it; where it was not PENDING all the same, the transaction fails, and
//! comes again without it. Every other is locked first, to see how it goes on: only while it is PENDING and nothing of
//! the claim that ended is there.

use super::brought::{self, not_set};
use super::changes::Changes;
use super::consumer::Deliveries;
use super::descendants;
use super::metrics::Tally;
use super::outcome::{Attempted, Next, Outcome, next};
use super::parked::{self, Parking};
use super::repeats;
use super::spans::{self, Sent};
use super::store::deliveries::Delivery;
use super::store::ends::{self, End, Locked, Standing};
use super::store::learned::{self, Learned};
use super::store::returned;
use super::streaks::Streaks;
use super::verdict::{Delivered, Verdict};
use crate::flow::store::lines::{self, Place};
use crate::flow::store::parts;
use crate::http::outbound::Cause;
use crate::hub::definitions::mapping::Definition;
use crate::hub::notices::log_entry::{Entry, Note};
use crate::hub::notices::{Notice, store as log_entries};
use crate::hub::parked_by::ParkedBy;
use crate::hub::routing::decide;
use crate::hub::routing::message::Draft;
use crate::worker::{Again, Claim, Ended, Settled};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// What the ends of attempts bring about, gathered before it is written.
#[derive(Default)]
struct Effects<'a> {
    ends: Vec<End<'a>>,
    parked: Vec<(Uuid, ParkedBy, &'static str)>,
    held: Vec<(&'a Claim, Delivery)>,
    waits: Vec<(&'a Claim, String, DateTime<Utc>)>,
    returned: Vec<(Uuid, Uuid, Duration)>,
    drafts: Vec<Draft>,
    /// What answers set, and the message that each answered.
    learned: Vec<(Uuid, Learned<'a>)>,
    entries: Vec<Entry>,
    left: Vec<Place>,
    changes: Changes,
    streaks: Streaks,
    parkings: Vec<Parking>,
    tally: Tally,
    spans: Vec<Sent>,
    settled: Settled,
}

/// Why a delivery of a mapping that was deleted is parked.
const DELETED: &str = "the mapping was deleted";

fn mapping_deleted() -> (ParkedBy, String) {
    (ParkedBy::MappingDeleted, DELETED.to_owned())
}

/// The delivery of an attempt that ended it well, as it was read when it was claimed.
fn done(end: &Ended<Outcome>) -> Option<(&Delivery, &Attempted)> {
    match &end.outcome {
        Some(Outcome::Attempted(attempted)) if matches!(attempted.verdict, Verdict::Delivered(_)) => {
            Some((attempted.delivery.as_ref()?, attempted))
        }
        _ => None,
    }
}

impl Deliveries {
    /// Writes how attempts ended.
    pub(super) async fn write(
        &self,
        tx: &mut PgConnection,
        ended: &[&Ended<Outcome>],
    ) -> sqlx::Result<Settled> {
        // In the order of locks: whether what is held stays so, its mapping says.
        let held: Vec<Uuid> = ended
            .iter()
            .filter(|end| matches!(end.outcome, Some(Outcome::Held)))
            .map(|end| end.claim.item)
            .collect();
        let mappings = if held.is_empty() {
            Vec::new()
        } else {
            let ids = returned::mappings_of(&mut *tx, &held).await?;
            returned::lock_mappings(&mut *tx, &ids).await?
        };
        let claims: Vec<&Claim> =
            ended.iter().filter(|end| done(end).is_none()).map(|end| &end.claim).collect();
        let mut locked: HashMap<Uuid, Locked> = HashMap::new();
        if !claims.is_empty() {
            for delivery in ends::lock(&mut *tx, &claims).await? {
                locked.entry(delivery.delivery.id).or_insert(delivery);
            }
        }
        // What is said of a claim without an answer.
        let lost = Attempted::failed("the worker was lost");
        let mut effects = Effects::default();
        for end in ended {
            let Ended { claim, outcome } = end;
            if let Some((delivery, attempted)) = done(end) {
                effects.settled.written += 1;
                let word = ends::Verdict::Delivered;
                self.attempted(&mut effects, claim, (delivery, Standing::default()), attempted, word);
                continue;
            }
            let Some(outcome) = outcome else { continue };
            let Some(Locked { delivery, lease, standing }) = locked.remove(&claim.item) else { continue };
            if lease != claim.lease {
                continue;
            }
            effects.settled.written += 1;
            match outcome {
                Outcome::Attempted(attempted) => {
                    let word = attempted.verdict.word();
                    self.attempted(&mut effects, claim, (&delivery, standing), attempted, word);
                }
                Outcome::Lost => {
                    let word = ends::Verdict::Lost;
                    self.attempted(&mut effects, claim, (&delivery, standing), &lost, word);
                }
                Outcome::GivenBack => {
                    if self.means.tracer.is_on() {
                        effects.spans.push(Sent::of(claim, &delivery, ends::Verdict::Returned));
                    }
                    effects.return_attempt(claim, &delivery, standing);
                }
                Outcome::NotStarted { lane, after } => effects.give_back(claim, *lane, *after),
                Outcome::Waits { service, until } => effects.waits.push((claim, service.clone(), *until)),
                Outcome::Held => effects.held.push((claim, delivery)),
                Outcome::Parked(by, reason) => effects.park(&delivery, *by, reason),
            }
        }
        std::mem::take(&mut effects.tally).count();
        self.take_effect(tx, effects, &mappings).await
    }

    /// Notes what an attempt brings about.
    fn attempted<'a>(
        &self,
        effects: &mut Effects<'a>,
        claim: &'a Claim,
        (delivery, standing): (&Delivery, Standing),
        attempted: &'a Attempted,
        word: ends::Verdict,
    ) {
        // As it ran; where nobody knows, as it would run again.
        let mapping = attempted.mapping.clone().or_else(|| self.catalog.mapping(delivery.mapping_id));
        let options = mapping.as_ref().map(|mapping| &mapping.definition.options);
        let next = next(&attempted.verdict, claim.attempt, standing.age, options, self.retry);
        let endpoint = self.catalog.endpoint(claim.lane);
        let cause = attempted.verdict.cause().map(Cause::word);
        if self.means.tracer.is_on() {
            let (sent_at, took, status) = (attempted.sent_at, attempted.took, attempted.status);
            effects.spans.push(Sent { sent_at, took, status, cause, ..Sent::of(claim, delivery, word) });
        }
        if let Some(endpoint) = &endpoint {
            effects.tally.attempt(endpoint, word, cause, attempted.took);
            effects.streaks.note(endpoint, attempted);
        }
        let (notes, error) = match &attempted.verdict {
            Verdict::Delivered(delivered) => {
                let definition = mapping.as_ref().map(|mapping| &mapping.definition);
                self.delivered(effects, delivery, attempted, delivered, definition);
                (&delivered.notes, None)
            }
            Verdict::Deferred { notes, .. } => (notes, None),
            Verdict::Failed(failed) => (&failed.notes, Some(failed.error.as_str())),
        };
        let entry = |note: &Note| {
            Entry::new(delivery.store_id, Some(delivery.message_id), delivery.id.as_bytes(), note.clone())
        };
        effects.entries.extend(notes.iter().map(entry));
        effects.changes.note(claim.lane, &attempted.change, error);
        let mut end = End {
            claim,
            number: delivery.attempts.saturating_add(1),
            verdict: word,
            status: attempted.status.and_then(|status| i16::try_from(status).ok()),
            took: attempted.took,
            cause,
            error,
            body: attempted.body.as_deref(),
            business_error: matches!(&attempted.verdict, Verdict::Delivered(delivered) if delivered.business_error),
            parked: None,
            again: None,
            continue_url: None,
        };
        match next {
            // Nobody would claim it: what deleted the mapping left it alone while it ran.
            Next::Again { .. } if standing.is_orphan => {
                end.parked = Some(mapping_deleted());
                effects.leave(delivery);
            }
            Next::Again { after, counts } => {
                end.again = Some(after);
                end.continue_url = standing.continue_url;
                if let Verdict::Deferred { continue_url: Some(url), .. } = &attempted.verdict {
                    end.continue_url = Some(url.clone());
                }
                effects.again(claim, claim.lane, after, counts);
            }
            Next::Complete => effects.leave(delivery),
            Next::Parked(by, why) => {
                let took = attempted.took;
                effects.parkings.push(Parking::new(delivery, claim.lane, why.clone(), cause, took));
                end.parked = Some((by, why));
                effects.leave(delivery);
            }
        }
        effects.ends.push(end);
    }

    fn delivered<'a>(
        &self,
        effects: &mut Effects<'a>,
        delivery: &Delivery,
        attempted: &'a Attempted,
        delivered: &'a Delivered,
        mapping: Option<&Definition>,
    ) {
        // It was read with the delivery.
        let Some(lineage) = &attempted.lineage else { return };
        let trace = attempted.trace.as_ref();
        effects.drafts.extend(brought::drafts(&self.db.ids, delivery, lineage, delivered, trace));
        effects.learned.extend(brought::learned(delivery, delivered, mapping));
    }

    /// Writes how endpoints fail. Those that have failed for too long are switched off once this is committed.
    async fn doom(&self, tx: &mut PgConnection, effects: &mut Effects<'_>) -> sqlx::Result<()> {
        for doomed in std::mem::take(&mut effects.streaks).write(tx, &self.catalog).await? {
            let send = self.doomed.clone();
            effects.settled.lines.push(move || {
                // Where nobody listens any more, the process ends.
                _ = send.send(doomed);
            });
        }
        Ok(())
    }

    /// Writes it all, always in this order, so that two settlements wait for each other rather than both.
    async fn take_effect(
        &self,
        tx: &mut PgConnection,
        mut effects: Effects<'_>,
        mappings: &[returned::Mapping],
    ) -> sqlx::Result<Settled> {
        effects.decide_held(&mut *tx, mappings).await?;
        let changed = std::mem::take(&mut effects.changes).write(&mut *tx, &self.catalog).await?;
        effects.settled.soonest = changed.soonest;
        self.doom(&mut *tx, &mut effects).await?;
        let mut notices = changed.notices;
        let lines = &mut effects.settled.lines;
        notices.extend(parked::tell(&mut *tx, &self.means, &effects.parkings, lines).await?);
        spans::note(&mut *tx, &self.means, std::mem::take(&mut effects.spans), lines).await?;
        effects.drafts.extend(notices.iter().map(|notice| notice.draft(&self.db.ids)));
        effects.entries.extend(notices.iter().map(Notice::entry));
        effects.decide_waiting(&mut *tx, self.now()).await?;
        let Effects { ends, parked, returned, drafts, learned, mut entries, left, mut settled, .. } = effects;
        if !ends.is_empty() {
            ends::write(&mut *tx, &ends).await?;
        }
        if !parked.is_empty() {
            ends::park(&mut *tx, &parked).await?;
        }
        if !returned.is_empty() {
            returned::note(&mut *tx, &returned).await?;
        }
        let mut drafts = repeats::leave_out(&mut *tx, &ends, drafts).await?;
        if !drafts.is_empty() {
            descendants::count(&mut *tx, &mut drafts, self.descendants).await?;
            let accepted = decide::accept(&mut *tx, &self.catalog, &self.db.ids, drafts).await?;
            parked::tell_of_unsent(&mut *tx, &self.means, accepted.unsent, &mut settled.lines).await?;
            settled.woken.extend(accepted.ready);
            settled.soonest = settled.soonest.into_iter().chain(accepted.soonest).min();
        }
        if !learned.is_empty() {
            let (messages, learned): (Vec<Uuid>, Vec<Learned<'_>>) = learned.into_iter().unzip();
            let refused = learned::learn(&mut *tx, self.sealer.as_deref(), &learned).await?;
            entries.extend(refused.into_iter().map(|place| not_set(messages[place], &learned[place])));
        }
        if !entries.is_empty() {
            entries.sort_by_key(|entry| entry.digest);
            log_entries::write(&mut *tx, &entries).await?;
        }
        if !left.is_empty() {
            settled.woken.extend(lines::leave(tx, &left).await?);
        }
        settled.woken.sort_unstable();
        settled.woken.dedup();
        Ok(settled)
    }
}

impl<'a> Effects<'a> {
    /// A mapping may have been switched on or deleted since its delivery was found switched off: `mappings`, locked,
    /// say how it is now.
    async fn decide_held(
        &mut self,
        tx: &mut PgConnection,
        mappings: &[returned::Mapping],
    ) -> sqlx::Result<()> {
        let mut stays = Vec::new();
        for (claim, delivery) in std::mem::take(&mut self.held) {
            match mappings.iter().find(|mapping| mapping.id == delivery.mapping_id) {
                Some(mapping) if !mapping.deleted && mapping.enabled => {
                    self.give_back(claim, mapping.endpoint_id, Duration::ZERO);
                }
                Some(mapping) if !mapping.deleted => {
                    self.returned.push((delivery.id, claim.lease, Duration::ZERO));
                    stays.push((mapping.id, delivery.id));
                }
                _ => self.park(&delivery, ParkedBy::MappingDeleted, DELETED),
            }
        }
        if stays.is_empty() { Ok(()) } else { returned::hold(tx, &stays).await }
    }

    fn again(&mut self, claim: &Claim, lane: i32, after: Duration, counts: bool) {
        let attempt = claim.attempt - i16::from(!counts);
        let Claim { rank, item, .. } = *claim;
        self.settled.again.push(Again { lane, rank, item, attempt, after, traceable: false });
    }

    /// Notes an attempt that a stopping worker gave back: the endpoint may have heard of it.
    fn return_attempt(&mut self, claim: &'a Claim, delivery: &Delivery, standing: Standing) {
        // Nobody would claim it: what deleted the mapping left it alone while it ran.
        let parked = standing.is_orphan.then(mapping_deleted);
        if parked.is_some() {
            self.leave(delivery);
        } else {
            self.again(claim, claim.lane, Duration::ZERO, false);
        }
        self.ends.push(End {
            claim,
            number: delivery.attempts.saturating_add(1),
            verdict: ends::Verdict::Returned,
            status: None,
            took: Duration::ZERO,
            cause: None,
            error: Some("given back: the worker was told to stop"),
            body: None,
            business_error: false,
            again: parked.is_none().then_some(Duration::ZERO),
            parked,
            continue_url: standing.continue_url,
        });
    }

    fn give_back(&mut self, claim: &Claim, lane: i32, after: Duration) {
        self.returned.push((claim.item, claim.lease, after));
        self.again(claim, lane, after, false);
    }

    fn park(&mut self, delivery: &Delivery, by: ParkedBy, reason: &'static str) {
        self.leave(delivery);
        self.parked.push((delivery.id, by, reason));
    }

    fn leave(&mut self, delivery: &Delivery) {
        if let Some(line) = delivery.line.clone() {
            self.left.push(Place { series: delivery.mapping_id, line, item: delivery.id });
        }
    }

    /// Whoever found a service left alone waits, unless that is over by now.
    async fn decide_waiting(&mut self, tx: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<()> {
        if self.waits.is_empty() {
            return Ok(());
        }
        let waits = std::mem::take(&mut self.waits);
        let services: Vec<(i32, String)> =
            waits.iter().map(|(claim, service, _)| (claim.lane, service.clone())).collect();
        let shut = parts::locked(tx, &services).await?;
        for ((claim, _, until), service) in waits.into_iter().zip(services) {
            let after = (until - now).to_std().ok().filter(|_| shut.contains(&service));
            let after = after.unwrap_or_default();
            self.give_back(claim, claim.lane, after);
        }
        Ok(())
    }
}

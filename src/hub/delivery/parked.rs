//! What is told of deliveries that were parked: by the end of an attempt, or as soon as they were made.

use super::attempt::Means;
use super::store::deliveries::{self, Delivery, Origin};
use crate::hub::key::is_reserved;
use crate::hub::notices::{Notice, Parked};
use crate::hub::routing::decide::Unsent;
use crate::hub::routing::message::Parent;
use crate::worker::Lines;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// A delivery that an attempt parked.
pub(super) struct Parking {
    pub(super) delivery: Delivery,
    /// The lane in which it ran.
    pub(super) lane: i32,
    /// Why.
    pub(super) reason: String,
    /// Why the attempt failed, in one word.
    pub(super) error: &'static str,
    /// How long it took.
    pub(super) took: Duration,
}

impl Parking {
    pub(super) fn new(
        delivery: &Delivery,
        lane: i32,
        reason: String,
        cause: Option<&'static str>,
        took: Duration,
    ) -> Self {
        Self { delivery: delivery.clone(), lane, reason, error: cause.unwrap_or("other"), took }
    }
}

/// What is to be told of these deliveries: in the log of all of them, to the store nothing of those of messages that the
/// hub made itself.
pub(super) async fn tell(
    tx: &mut PgConnection,
    means: &Means,
    parked: &[Parking],
    lines: &mut Lines,
) -> sqlx::Result<Vec<Notice>> {
    if parked.is_empty() {
        return Ok(Vec::new());
    }
    let messages = parked.iter().map(|parking| (parking.delivery.store_id, parking.delivery.message_id));
    let messages = deliveries::origins(tx, &messages.collect::<Vec<_>>()).await?;
    for Parking { delivery, lane, reason, error, took } in parked {
        let origin = messages.get(&delivery.message_id);
        let attempt = Some((delivery.attempts.saturating_add(1), *error, *took));
        note(lines, means, (delivery.id, *lane), reason, attempt, (delivery.message_id, origin));
    }
    let catalog = &means.catalog;
    let notice = |Parking { delivery, lane, reason, .. }: &Parking| {
        let message = messages.get(&delivery.message_id).filter(|message| !is_reserved(&message.key))?;
        let Origin { key, lineage, .. } = message;
        let (mapping, endpoint) = (catalog.mapping(delivery.mapping_id), catalog.endpoint(*lane));
        Some(Notice::delivery_parked(Parked {
            store_id: delivery.store_id,
            parent: Parent { message: delivery.message_id, delivery: delivery.id },
            message: key,
            lineage: lineage.clone().through(delivery.mapping_id, key.clone()),
            mapping: mapping.as_ref().map(|mapping| mapping.name.as_str()),
            endpoint: endpoint.as_ref().map(|endpoint| endpoint.name.as_str()),
            reason,
        }))
    };
    Ok(parked.iter().filter_map(notice).collect())
}

/// Notes the lines of deliveries that are stored and not sent.
pub(super) async fn tell_of_unsent(
    tx: &mut PgConnection,
    means: &Means,
    unsent: Vec<Unsent>,
    lines: &mut Lines,
) -> sqlx::Result<()> {
    if unsent.is_empty() {
        return Ok(());
    }
    let messages: Vec<(i32, Uuid)> = unsent.iter().map(|unsent| (unsent.store_id, unsent.message)).collect();
    let messages: HashMap<Uuid, Origin> = deliveries::origins(tx, &messages).await?;
    for Unsent { delivery, lane, message, reason, .. } in unsent {
        note(lines, means, (delivery, lane), &reason, None, (message, messages.get(&message)));
    }
    Ok(())
}

/// Notes the line of a delivery that waits for somebody from now on, and the attempt that ended so, if there was one.
fn note(
    lines: &mut Lines,
    means: &Means,
    (delivery, lane): (Uuid, i32),
    reason: &str,
    attempt: Option<(i32, &'static str, Duration)>,
    (message, origin): (Uuid, Option<&Origin>),
) {
    let (endpoint, reason) = (means.catalog.endpoint(lane), reason.to_owned());
    let request_id = origin.and_then(|origin| origin.request_id.clone());
    let trace_id = means.tracer.trace_id(origin.and_then(|origin| origin.trace.as_ref()), message);
    lines.push(move || {
        let (store, endpoint) =
            endpoint.as_ref().map_or(("", "deleted"), |endpoint| (&*endpoint.store, &*endpoint.name));
        let took = attempt.map(|(_, _, took)| tracing::field::debug(took));
        let (attempt, error) = attempt.map(|(attempt, error, _)| (attempt, error)).unzip();
        let (cause, request_id, trace_id) = (reason.as_str(), request_id.as_deref(), trace_id.as_deref());
        tracing::warn!(store, endpoint, %delivery, attempt, error, cause, took, request_id, trace_id, "a delivery is parked");
    });
}

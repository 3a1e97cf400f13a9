//! What is told of deliveries that were parked by the end of an attempt.

use super::store::deliveries::{self, Delivery};
use crate::hub::definitions::catalog::Catalog;
use crate::hub::key::is_reserved;
use crate::hub::notices::{Notice, Parked};
use crate::hub::routing::message::Parent;
use sqlx::postgres::PgConnection;

/// A delivery that an attempt parked.
pub(super) struct Parking {
    pub(super) delivery: Delivery,
    /// The lane in which it ran.
    pub(super) lane: i32,
    /// Why.
    pub(super) reason: String,
}

/// What is to be told of these deliveries. Nothing of those of messages that the hub made itself.
pub(super) async fn notices(
    tx: &mut PgConnection,
    catalog: &Catalog,
    parked: &[Parking],
) -> sqlx::Result<Vec<Notice>> {
    if parked.is_empty() {
        return Ok(Vec::new());
    }
    let messages = parked.iter().map(|parking| (parking.delivery.store_id, parking.delivery.message_id));
    let messages = deliveries::messages(tx, &messages.collect::<Vec<_>>()).await?;
    let notice = |Parking { delivery, lane, reason }: &Parking| {
        let (message, lineage) = messages.get(&delivery.message_id).filter(|(key, _)| !is_reserved(key))?;
        let (mapping, endpoint) = (catalog.mapping(delivery.mapping_id), catalog.endpoint(*lane));
        Some(Notice::delivery_parked(Parked {
            store_id: delivery.store_id,
            parent: Parent { message: delivery.message_id, delivery: delivery.id },
            message,
            lineage: lineage.clone().through(delivery.mapping_id, message.clone()),
            mapping: mapping.as_ref().map(|mapping| mapping.name.as_str()),
            endpoint: endpoint.as_ref().map(|endpoint| endpoint.name.as_str()),
            reason,
        }))
    };
    Ok(parked.iter().filter_map(notice).collect())
}

//! What an answer brings that took a message: messages of its own, and parameters for what is sent from now on.

use super::answer::Child;
use super::store::deliveries::Delivery;
use super::store::learned::Learned;
use super::verdict::Delivered;
use crate::db::Ids;
use crate::hub::definitions::mapping::{Definition, MaySet};
use crate::hub::notices::log_entry::{Entry, Level, Note};
use crate::hub::routing::lineage::Lineage;
use crate::hub::routing::message::{Draft, Parent};
use crate::traces::Context;
use uuid::Uuid;

/// The messages that an answer brings.
pub(super) fn drafts<'a>(
    ids: &'a Ids,
    delivery: &'a Delivery,
    lineage: &'a Lineage,
    delivered: &'a Delivered,
    trace: Option<&'a Context>,
) -> impl Iterator<Item = Draft> + 'a {
    let parent = Some(Parent { message: delivery.message_id, delivery: delivery.id });
    delivered.children.iter().map(move |Child { key, payload, delay, parked }| Draft {
        id: ids.next(),
        store_id: delivery.store_id,
        key: key.clone(),
        payload: payload.clone(),
        parent,
        hop: lineage.hop,
        root: Some(lineage.root),
        visits: lineage.visits_after(*delay),
        held_back: None,
        delay: *delay,
        parked: parked.clone(),
        trace: trace.cloned(),
    })
}

/// The parameters that an answer sets, each with the message that it answered.
pub(super) fn learned<'a>(
    delivery: &Delivery,
    delivered: &'a Delivered,
    mapping: Option<&Definition>,
) -> Vec<(Uuid, Learned<'a>)> {
    let fits = |name: &str| !name.is_empty() && name.chars().nth(255).is_none();
    let set = delivered.parameters.iter().filter(|(name, _)| fits(name));
    set.map(|(name, value)| {
        let learned = Learned {
            store_id: delivery.store_id,
            mapping_id: delivery.mapping_id,
            name,
            value,
            named: mapping.is_some_and(|mapping| mapping.parameters.contains(name)),
            any: mapping.is_some_and(|mapping| mapping.options.parameters == MaySet::Any),
        };
        (delivery.message_id, learned)
    })
    .collect()
}

/// What is said of a parameter that an answer may not set: once a mapping, however often it tries.
pub(super) fn not_set(message: Uuid, set: &Learned<'_>) -> Entry {
    let words = format!(
        "The answer sets the parameter {}, which its mapping is not sent and did not make: it belongs to another \
         integration, and stays as it is. To allow it, name it in the mapping's \"parameters\", or put \
         \"parameters\": \"any\" in the mapping's options.",
        set.name
    );
    let mut note = Note::new(Level::Warn, "A parameter was not set", words);
    note.reference = (Some("parameter".to_owned()), Some(set.name.to_owned()));
    Entry::new(set.store_id, Some(message), &set.mapping_id.to_be_bytes(), note)
}

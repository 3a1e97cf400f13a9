//! Notifications that a delivery brings again, because it was run again: they are counted, and make no second message.

use super::answer::note;
use super::store::ends::{End, Verdict};
use super::store::notifications::{self, Stored};
use crate::hub::notices::log_entry::Entry;
use crate::hub::routing::message::{Draft, Parent};
use serde_json::value::RawValue;
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// What makes a notification the same when its delivery says it again: that of its log entry.
fn digest(store_id: i32, delivery: Uuid, key: &str, payload: &RawValue) -> Option<[u8; 32]> {
    Some(Entry::new(store_id, None, delivery.as_bytes(), note(key, payload)?).digest)
}

fn digest_of(draft: &Draft) -> Option<[u8; 32]> {
    digest(draft.store_id, draft.parent?.delivery, &draft.key, &draft.payload)
}

/// Leaves those drafts out that an earlier attempt of their delivery has stored. To be called when `ends` are written:
/// then nobody else ends these deliveries.
pub(super) async fn leave_out(
    tx: &mut PgConnection,
    ends: &[End<'_>],
    mut drafts: Vec<Draft>,
) -> sqlx::Result<Vec<Draft>> {
    let again: HashSet<Uuid> = ends
        .iter()
        .filter(|end| end.number > 1 && end.verdict == Verdict::Delivered)
        .map(|end| end.claim.item)
        .collect();
    let is_said = |draft: &&Draft| draft.parent.is_some_and(|parent| again.contains(&parent.delivery));
    let parents: Vec<Parent> = drafts
        .iter()
        .filter(is_said)
        .filter(|draft| digest_of(draft).is_some())
        .filter_map(|draft| draft.parent)
        .collect();
    if parents.is_empty() {
        return Ok(drafts);
    }
    let stored: HashSet<[u8; 32]> = notifications::of(tx, &parents)
        .await?
        .iter()
        .filter_map(|Stored { store_id, delivery, key, payload }| {
            digest(*store_id, *delivery, key, &payload.0)
        })
        .collect();
    drafts.retain(|draft| digest_of(draft).is_none_or(|digest| !stored.contains(&digest)));
    Ok(drafts)
}

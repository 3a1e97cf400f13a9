//! The budget of a message from outside: so many messages may come of it by answers. What comes beyond is stored and
//! routed as any other, but its deliveries are parked: nothing is lost, and nothing goes on by itself.

use super::store::descendants;
use crate::hub::parked_by::ParkedBy;
use crate::hub::routing::message::Draft;
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Counts these messages for what they come of, and holds back those beyond `most`. One that is parked anyhow counts
/// not: nothing comes of it.
pub(super) async fn count(tx: &mut PgConnection, drafts: &mut [Draft], most: u32) -> sqlx::Result<()> {
    let mut more: BTreeMap<Uuid, i64> = BTreeMap::new();
    for root in drafts.iter().filter(|draft| draft.parked.is_none()).filter_map(|draft| draft.root) {
        *more.entry(root).or_default() += 1;
    }
    if more.is_empty() {
        return Ok(());
    }
    let mut counts = descendants::count(tx, &more).await?;
    for draft in drafts.iter_mut().filter(|draft| draft.parked.is_none()) {
        let Some(count) = draft.root.and_then(|root| counts.get_mut(&root)) else { continue };
        *count += 1;
        if *count > i64::from(most) {
            let why = format!(
                "loop: more than {most} messages have come of one from outside (POSTRIDER_HUB_DESCENDANTS); retry \
                 sends it all the same"
            );
            draft.held_back = Some((ParkedBy::Descendants, why));
            // Whoever has it run does not mean later.
            draft.delay = Duration::ZERO;
        }
    }
    Ok(())
}

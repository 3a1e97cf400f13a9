//! What a schedule of a queue makes when it fires: a message.

use super::put::stored;
use super::schedule::Overlap;
use super::unique;
use crate::db::Ids;
use crate::flow::store::schedules::Due;
use crate::flow::ticker::{Fires, Made, Planned};
use crate::queues::catalog::Catalog;
use crate::queues::metrics;
use crate::queues::store::schedules::{self, KIND};
use crate::queues::uniqueness::Verdict;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// The schedules of queues.
pub struct Pushes {
    /// The queues, for counting.
    pub catalog: Arc<Catalog>,
    /// Makes the ids of messages.
    pub ids: Arc<Ids>,
}

impl Fires for Pushes {
    const KIND: &'static str = KIND;
    type Plan = (i32, Uuid);

    async fn plan(&self, tx: &mut PgConnection, due: &[Due]) -> sqlx::Result<Vec<Planned<Self::Plan>>> {
        let rows = schedules::due(tx, due).await?;
        let mut rows: HashMap<i32, schedules::DueRow> =
            rows.into_iter().map(|due| (due.row.id, due)).collect();
        let plan = |due: &Due| {
            let schedules::DueRow { queue, is_under_way, row } = rows.remove(&due.owner)?;
            let Some(schedule) = stored(&row) else {
                let name = row.name;
                tracing::error!(queue, schedule = name, "a stored schedule cannot be used: it does not fire");
                return Some(Planned::never(due.owner));
            };
            if !schedule.enabled {
                return Some(Planned::never(due.owner));
            }
            let turn = schedule.cadence(&queue, &row.name).turn(due.at, due.now, schedule.missed);
            Some(Planned::of(due.owner, &turn, || {
                let id = self.ids.next();
                let overlaps = is_under_way && schedule.overlap == Overlap::Skip;
                (!overlaps).then_some((Some(id), (due.owner, id)))
            }))
        };
        Ok(due.iter().filter_map(plan).collect())
    }

    async fn make(&self, tx: &mut PgConnection, plans: Vec<Self::Plan>) -> sqlx::Result<Made> {
        let pushed = schedules::push(&mut *tx, &plans).await?;
        let is_unique = pushed.iter().any(|pushed| pushed.is_unique);
        let (mut made, mut tally) = (Made::default(), Tally::default());
        for schedules::Pushed { queue_id, rank, count, .. } in pushed.into_iter().filter(|one| !one.is_unique)
        {
            made.ready.push((queue_id, rank));
            *tally.pushed.entry(queue_id).or_default() += count.unsigned_abs();
        }
        if is_unique {
            let (judged, held) = unique::push(tx, &plans).await?;
            for judged in &judged {
                take(judged, &mut made, &mut tally);
            }
            made.instead.extend(held.into_iter().map(|schedule| (schedule, None)));
        }
        let catalog = Arc::clone(&self.catalog);
        made.count = Some(Box::new(move || tally.count(&catalog)));
        Ok(made)
    }
}

/// What was pushed into each queue, and what became of values that were held.
#[derive(Default)]
struct Tally {
    pushed: HashMap<i32, u64>,
    told: HashMap<i32, Vec<Verdict>>,
}

impl Tally {
    fn count(self, catalog: &Catalog) {
        for (id, messages) in self.pushed {
            if let Some(queue) = catalog.by_id(id) {
                metrics::pushed(&queue, messages);
            }
        }
        for (id, verdicts) in self.told {
            if let Some(queue) = catalog.by_id(id) {
                metrics::told(&queue, &verdicts);
            }
        }
    }
}

/// Notes what became of a message that is unique.
fn take(judged: &schedules::Judged, made: &mut Made, tally: &mut Tally) {
    let verdict = match judged.verdict.as_str() {
        "existing" => Verdict::Existing,
        "replaced" => Verdict::Replaced,
        "rejected" => Verdict::Rejected,
        _ => {
            made.ready.push((judged.queue_id, judged.rank));
            *tally.pushed.entry(judged.queue_id).or_default() += 1;
            return;
        }
    };
    let is_replaced = verdict == Verdict::Replaced;
    if is_replaced {
        made.ready.push((judged.queue_id, judged.rank));
    }
    made.instead.insert(judged.schedule, is_replaced.then_some(judged.message));
    tally.told.entry(judged.queue_id).or_default().push(verdict);
}

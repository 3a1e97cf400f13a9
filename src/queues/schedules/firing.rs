//! What a schedule of a queue makes when it fires: a message.

use super::put::stored;
use super::schedule::Overlap;
use crate::db::Ids;
use crate::flow::store::schedules::Due;
use crate::flow::ticker::{Fires, Made, Planned};
use crate::queues::catalog::Catalog;
use crate::queues::metrics;
use crate::queues::store::schedules::{self, KIND};
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
        let pushed = schedules::push(tx, &plans).await?;
        let ready = pushed.iter().map(|(lane, rank, _)| (*lane, *rank)).collect();
        let catalog = Arc::clone(&self.catalog);
        let count = move || {
            for (lane, _, messages) in pushed {
                if let Some(queue) = catalog.by_id(lane) {
                    metrics::pushed(&queue, messages.unsigned_abs());
                }
            }
        };
        Ok(Made { ready, count: Some(Box::new(count)) })
    }
}

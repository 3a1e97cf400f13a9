//! What schedules of the hub make: the poll messages of mappings, and runs of pollers.

use super::document::PutPoller;
use super::store::pollers;
use super::store::ticks::{self, Asked};
use crate::db::Database;
use crate::flow::cadence::{Cadence, Missed};
use crate::flow::store::schedules::Due;
use crate::flow::ticker::{Fires, Made, Planned};
use crate::http::json_text::to_value;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::mapping::{Mapping, Schedule};
use crate::hub::definitions::store::mappings;
use crate::hub::routing::decide::{self, Poll};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// The schedules of mappings, which send poll messages.
pub struct Polls {
    /// The database.
    pub db: Database,
    /// The mappings.
    pub catalog: Arc<Catalog>,
}

impl Polls {
    /// The mapping, if its schedule fires at all.
    fn scheduled(&self, row: mappings::Row) -> Option<Arc<Mapping>> {
        if !row.enabled {
            return None;
        }
        self.catalog.compiled(row).filter(|mapping| mapping.definition.schedule.is_some())
    }
}

fn schedule(mapping: &Mapping) -> Option<&Schedule> {
    mapping.definition.schedule.as_ref()
}

impl Fires for Polls {
    const KIND: &'static str = mappings::KIND;
    type Plan = (Arc<Mapping>, Uuid);

    /// One whose poll before is still under way makes none.
    async fn plan(&self, tx: &mut PgConnection, due: &[Due]) -> sqlx::Result<Vec<Planned<Self::Plan>>> {
        let owners: Vec<i32> = due.iter().map(|due| due.owner).collect();
        let rows = ticks::lock_mappings(&mut *tx, &owners).await?;
        let mut mappings: HashMap<i32, Option<Arc<Mapping>>> =
            rows.into_iter().map(|row| (row.id, self.scheduled(row))).collect();
        let asked: Vec<Asked<'_>> = due
            .iter()
            .filter_map(|due| {
                let message = &schedule(mappings.get(&due.owner)?.as_ref()?)?.message;
                Some(Asked { mapping: due.owner, key: message, last: due.last? })
            })
            .collect();
        let under_way = ticks::under_way(&mut *tx, &asked).await?;
        let plan = |due: &Due| {
            let Some(mapping) = mappings.remove(&due.owner)? else { return Some(Planned::never(due.owner)) };
            let cadence = Cadence::from(schedule(&mapping)?.timing.clone());
            let turn = cadence.turn(due.at, due.now, Missed::RunOnce);
            Some(Planned::of(due.owner, &turn, || {
                let id = self.db.ids.next();
                (!under_way.contains(&due.owner)).then_some((Some(id), (mapping, id)))
            }))
        };
        Ok(due.iter().filter_map(plan).collect())
    }

    async fn make(&self, tx: &mut PgConnection, plans: Vec<Self::Plan>) -> sqlx::Result<Made> {
        let polls: Vec<Poll<'_>> = plans
            .iter()
            .filter_map(|(mapping, id)| Some(Poll { mapping, id: *id, key: &schedule(mapping)?.message }))
            .collect();
        let ready = decide::poll(tx, &self.db.ids, &polls).await?;
        Ok(Made { ready: ready.into_iter().map(|lane| (lane, 0)).collect(), ..Made::default() })
    }
}

/// The schedules of pollers, which have them run.
pub struct Passes;

impl Fires for Passes {
    const KIND: &'static str = pollers::KIND;
    type Plan = i32;

    /// One that runs already is not run again.
    async fn plan(&self, tx: &mut PgConnection, due: &[Due]) -> sqlx::Result<Vec<Planned<i32>>> {
        let owners: Vec<i32> = due.iter().map(|due| due.owner).collect();
        let rows = ticks::lock_pollers(tx, &owners).await?;
        let mut pollers: HashMap<i32, ticks::DuePoller> = rows.into_iter().map(|row| (row.id, row)).collect();
        let plan = |due: &Due| {
            let poller = pollers.remove(&due.owner)?;
            let document = to_value(poller.definition.get());
            let Some(Ok(put)) = document.map(|document| PutPoller::read(&document)) else {
                tracing::error!(poller = poller.name, "a stored poller cannot be used: it does not run");
                return Some(Planned::never(due.owner));
            };
            if !put.definition.enabled {
                return Some(Planned::never(due.owner));
            }
            let turn = Cadence::from(put.definition.timing).turn(due.at, due.now, Missed::RunOnce);
            Some(Planned::of(due.owner, &turn, || (!poller.queued).then_some((None, due.owner))))
        };
        Ok(due.iter().filter_map(plan).collect())
    }

    async fn make(&self, tx: &mut PgConnection, plans: Vec<i32>) -> sqlx::Result<Made> {
        pollers::queue_runs(tx, &plans).await?;
        Ok(Made { ready: plans.into_iter().map(|lane| (lane, 0)).collect(), ..Made::default() })
    }
}

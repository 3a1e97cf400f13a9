//! Fires schedules: sends the poll messages of mappings, and has pollers run.
//!
//! It sleeps until the earliest moment, and looks anew when a schedule may have changed; without a schedule it
//! asks the database nothing. Every process has one: whoever locks a due row first fires it, and the row in
//! `ticks` is there once.

use super::catalog::Catalog;
use super::definition::PutPoller;
use super::routing;
use super::store::{mappings, pollers, ticks};
use crate::db::{self, Database, bounded};
use crate::http::json_text::to_value;
use crate::worker::Wake;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The longest sleep: the database's clock may be set.
const LONGEST: Duration = Duration::from_mins(10);
/// The pause when the database is away, and when another process fires what is due.
const AWAY: Duration = Duration::from_secs(2);
const TAKEN: Duration = Duration::from_millis(200);

/// What fires schedules.
#[derive(Clone)]
pub struct Ticker {
    /// The database.
    pub db: Database,
    /// The mappings.
    pub catalog: Arc<Catalog>,
    /// The bell of the engine.
    pub wake: Arc<Wake>,
    /// Rings when a schedule may have changed.
    pub bell: Arc<Notify>,
}

/// What one transaction did.
#[derive(Debug, Default)]
struct Fired {
    /// Whether something was due.
    any: bool,
    /// Lanes in which something became ready.
    ready: Vec<i32>,
}

impl Ticker {
    /// Fires what is due until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot fire schedules; trying again");
                Some(AWAY)
            });
            let rung = self.bell.notified();
            match pause {
                Some(pause) => {
                    stop.run_until_cancelled(tokio::time::timeout(pause.min(LONGEST), rung)).await;
                }
                None => drop(stop.run_until_cancelled(rung).await),
            }
        }
    }

    /// Fires all that is due; gives how long there is nothing to do, `None` without an end.
    async fn round(&self) -> sqlx::Result<Option<Duration>> {
        loop {
            let Some(seconds) = bounded(ticks::next(&self.db.worker)).await? else { return Ok(None) };
            if seconds > 0.0 {
                // Not a moment too early: the database's clock has microseconds.
                return Ok(Some(Duration::try_from_secs_f64(seconds + 0.001).unwrap_or(LONGEST)));
            }
            let ticker = self.clone();
            let fired = db::transaction::<_, sqlx::Error, _>(&self.db.worker, move |tx| {
                Box::pin(async move {
                    let fired = ticker.fire_mapping(&mut *tx).await?;
                    if fired.any { Ok(fired) } else { fire_poller(tx).await }
                })
            })
            .await?;
            for lane in &fired.ready {
                self.wake.ready(*lane, 0);
            }
            if !fired.any {
                return Ok(Some(TAKEN));
            }
        }
    }

    /// Sends the poll message of a mapping that is due, unless the one before is still under way.
    async fn fire_mapping(&self, tx: &mut PgConnection) -> sqlx::Result<Fired> {
        let Some(due) = ticks::lock_mapping(&mut *tx).await? else { return Ok(Fired::default()) };
        let mut fired = Fired { any: true, ready: Vec::new() };
        let rows = mappings::live(&mut *tx, Some(&[due.store_id]), -1).await?;
        let row = rows.into_iter().find(|row| row.id == due.id);
        let mapping = row.and_then(|row| self.catalog.compiled(row));
        let schedule = mapping.as_ref().and_then(|mapping| mapping.definition.schedule.as_ref());
        let (Some(mapping), Some(schedule)) = (&mapping, schedule) else {
            // A definition that cannot be used here: the next one that is put sets the time.
            ticks::move_mapping(tx, due.id, None).await?;
            return Ok(fired);
        };
        let is_under_way = ticks::is_under_way(&mut *tx, due.id, &schedule.message).await?;
        let id = (!is_under_way).then(|| self.db.ids.next());
        if ticks::fire(&mut *tx, due.id, due.at, id).await?
            && let Some(id) = id
        {
            fired.ready = routing::poll(&mut *tx, mapping, &self.db.ids, id, &schedule.message).await?;
        }
        ticks::move_mapping(tx, due.id, schedule.timing.following(due.at, due.now)).await?;
        Ok(fired)
    }
}

/// Has a poller run that is due, unless it does already.
async fn fire_poller(tx: &mut PgConnection) -> sqlx::Result<Fired> {
    let Some(due) = ticks::lock_poller(&mut *tx).await? else { return Ok(Fired::default()) };
    let definition = to_value(due.definition.get());
    let next = if let Some(Ok(put)) = definition.map(|document| PutPoller::read(&document)) {
        put.definition.timing.following(due.at, due.now)
    } else {
        tracing::error!(poller = due.name, "a stored poller cannot be used: it does not run");
        None
    };
    let mut fired = Fired { any: true, ready: Vec::new() };
    if next.is_some() && !due.queued {
        pollers::queue_run(&mut *tx, due.id).await?;
        fired.ready.push(due.id);
    }
    ticks::move_poller(tx, due.id, next).await?;
    Ok(fired)
}

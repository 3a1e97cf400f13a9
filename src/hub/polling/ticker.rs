//! Fires schedules: sends the poll messages of mappings, and has pollers run.
//!
//! It sleeps until the earliest moment, and looks anew when a schedule may have changed; without a schedule it
//! asks the database nothing. Every process has one: whoever locks a due row first fires it, and the row in
//! `ticks` is there once. Many fire in one transaction, as many are due at once: all of one minute.

use super::document::PutPoller;
use super::store::pollers;
use super::store::ticks::{self, Due, Tick};
use crate::db::{self, Database, bounded};
use crate::http::json_text::to_value;
use crate::hub::definitions::catalog::Catalog;
use crate::hub::definitions::mapping::{Mapping, Schedule};
use crate::hub::routing::decide::{self, Poll};
use crate::worker::Wake;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The most mappings, and the most pollers, that fire in one transaction.
const BATCH: i64 = 500;
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

    /// Fires all that is due; returns how long there is nothing to do, `None` without an end.
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
                    let mut fired = ticker.fire_mappings(&mut *tx).await?;
                    let pollers = fire_pollers(tx).await?;
                    fired.any |= pollers.any;
                    fired.ready.extend(pollers.ready);
                    Ok(fired)
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

    /// Sends the poll messages of mappings that are due, but for those whose one before is still under way.
    async fn fire_mappings(&self, tx: &mut PgConnection) -> sqlx::Result<Fired> {
        let due = ticks::lock_mappings(&mut *tx, BATCH).await?;
        let mut fired = Fired { any: !due.is_empty(), ready: Vec::new() };
        // A definition that cannot be used here moves on to no moment: the next one that is put sets it.
        let mut next: HashMap<i32, Option<DateTime<Utc>>> =
            due.iter().map(|(row, _)| (row.id, None)).collect();
        let compiled = due.into_iter().filter_map(|(row, due)| Some((self.catalog.compiled(row)?, due)));
        let compiled: Vec<(Arc<Mapping>, Due)> = compiled.collect();
        let schedules: Vec<(&Mapping, &Schedule, Due)> = compiled
            .iter()
            .filter_map(|(mapping, due)| Some((&**mapping, mapping.definition.schedule.as_ref()?, *due)))
            .collect();
        let polls: Vec<(i32, &str)> =
            schedules.iter().map(|(mapping, schedule, _)| (mapping.id, schedule.message.as_str())).collect();
        let under_way = ticks::under_way(&mut *tx, &polls).await?;
        let moments: Vec<Tick> = schedules
            .iter()
            .map(|(mapping, _, due)| {
                let message = (!under_way.contains(&mapping.id)).then(|| self.db.ids.next());
                Tick { mapping: mapping.id, at: due.at, message }
            })
            .collect();
        let new = ticks::fire(&mut *tx, &moments).await?;
        let polls: Vec<Poll<'_>> = schedules
            .iter()
            .zip(&moments)
            .filter(|((mapping, ..), _)| new.contains(&mapping.id))
            .filter_map(|((mapping, schedule, _), tick)| {
                Some(Poll { mapping, id: tick.message?, key: &schedule.message })
            })
            .collect();
        fired.ready = decide::poll(&mut *tx, &self.db.ids, &polls).await?;
        for (mapping, schedule, due) in &schedules {
            next.insert(mapping.id, schedule.timing.following(due.at, due.now));
        }
        ticks::move_mappings(tx, &next.into_iter().collect::<Vec<_>>()).await?;
        Ok(fired)
    }
}

/// Has pollers run that are due, but for those that do already.
async fn fire_pollers(tx: &mut PgConnection) -> sqlx::Result<Fired> {
    let due = ticks::lock_pollers(&mut *tx, BATCH).await?;
    let mut fired = Fired { any: !due.is_empty(), ready: Vec::new() };
    let mut next = Vec::with_capacity(due.len());
    for poller in due {
        let definition = to_value(poller.definition.get());
        let following = if let Some(Ok(put)) = definition.map(|document| PutPoller::read(&document)) {
            put.definition.timing.following(poller.at, poller.now)
        } else {
            tracing::error!(poller = poller.name, "a stored poller cannot be used: it does not run");
            None
        };
        if following.is_some() && !poller.queued {
            fired.ready.push(poller.id);
        }
        next.push((poller.id, following));
    }
    pollers::queue_runs(&mut *tx, &fired.ready).await?;
    ticks::move_pollers(tx, &next).await?;
    Ok(fired)
}

//! Adds the hub's consumers to the engine, and starts what the hub does by itself.

use crate::flow::ticker::Ticker;
use crate::hub::definitions::mapping::Retry;
use crate::hub::delivery::consumer::Deliveries;
use crate::hub::delivery::disabling::Disabling;
use crate::hub::polling::consumer::Runs;
use crate::hub::polling::firing::{Passes, Polls};
use crate::hub::routing::pending::Router;
use crate::hub::state::Hub;
use crate::hub::upkeep;
use crate::worker::Worker;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Has `worker` route pending messages, send deliveries and run pollers, by the catalog of `hub`; `retry` is the backoff
/// where a mapping names none, `descendants` how many messages may come of one from outside. `ticker` fires its
/// schedules; in `tasks` the tables are tidied, until `stop`.
///
/// # Errors
/// The database cannot be read.
pub async fn start(
    worker: &mut Worker,
    ticker: &mut Ticker,
    hub: &Hub,
    retry: Retry,
    descendants: u32,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> sqlx::Result<()> {
    let Hub { db, catalog, sealer, outbound, tracer, .. } = hub.clone();
    let router = Router::new(db.clone(), Arc::clone(&catalog)).await?;
    worker.add(Arc::new(router));
    let (doom, doomed) = mpsc::unbounded_channel();
    let deliveries = Deliveries::new(hub, retry, descendants, doom);
    worker.add(Arc::new(deliveries));
    let disabling = Disabling { db: db.clone(), catalog: Arc::clone(&catalog), wake: worker.wake(), doomed };
    tasks.spawn(disabling.run(stop.clone()));
    let runs = Runs::new(db.clone(), Arc::clone(&catalog), sealer, outbound, worker.wake(), tracer);
    worker.add(Arc::new(runs));
    tasks.spawn(upkeep::run(db.clone(), stop.clone()));
    ticker.add(Polls { db, catalog });
    ticker.add(Passes);
    Ok(())
}

//! Adds the hub's consumers to the engine, and starts what the hub does by itself.

use super::catalog::Catalog;
use super::consumer::Deliveries;
use super::poller::consumer::Runs;
use super::router::Router;
use super::ticker::Ticker;
use super::upkeep;
use crate::db::Database;
use crate::http::outbound::Outbound;
use crate::seal::Sealer;
use crate::worker::Worker;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Has `worker` route pending messages, send deliveries and run pollers with `outbound`; gives the catalog that all
/// go by. Schedules fire and the tables are tidied in `tasks`, until `stop`.
///
/// # Errors
/// The database cannot be read.
pub async fn start(
    worker: &mut Worker,
    db: &Database,
    outbound: Outbound,
    sealer: Option<Arc<Sealer>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> sqlx::Result<Arc<Catalog>> {
    let catalog = Arc::new(Catalog::default());
    let router = Router::new(db.clone(), Arc::clone(&catalog), sealer.clone()).await?;
    worker.add(Arc::new(router));
    worker.add(Arc::new(Deliveries::new(db.clone(), Arc::clone(&catalog), outbound.clone(), sealer.clone())));
    let bell = Arc::new(Notify::new());
    let runs = Runs::new(db.clone(), Arc::clone(&catalog), sealer, outbound, Arc::clone(&bell));
    worker.add(Arc::new(runs));
    let ticker = Ticker { db: db.clone(), catalog: Arc::clone(&catalog), wake: worker.wake(), bell };
    tasks.spawn(ticker.run(stop.clone()));
    tasks.spawn(upkeep::run(db.clone(), stop.clone()));
    Ok(catalog)
}

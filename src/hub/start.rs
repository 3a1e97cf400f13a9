//! Adds the hub's consumers to the engine.

use super::consumer::Deliveries;
use super::router::Router;
use super::routes::Hub;
use crate::worker::Worker;
use std::sync::Arc;

/// Has `worker` route what waits to be routed in `hub`, and deliver.
///
/// # Errors
/// The database cannot be read.
pub async fn start(worker: &mut Worker, hub: &Hub) -> sqlx::Result<()> {
    let Hub { db, catalog, sealer, outbound, .. } = hub;
    let router = Router::new(db.clone(), Arc::clone(catalog), sealer.clone()).await?;
    worker.add(Arc::new(router));
    let deliveries = Deliveries::new(db.clone(), Arc::clone(catalog), outbound.clone(), sealer.clone());
    worker.add(Arc::new(deliveries));
    Ok(())
}

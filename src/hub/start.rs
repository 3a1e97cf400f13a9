//! Adds the hub's consumers to the engine.

use super::catalog::Catalog;
use super::consumer::Deliveries;
use super::router::Router;
use crate::db::Database;
use crate::http::outbound::Outbound;
use crate::seal::Sealer;
use crate::worker::Worker;
use std::sync::Arc;

/// Has `worker` route pending messages and send deliveries with `outbound`; gives the catalog that both go by.
///
/// # Errors
/// The database cannot be read.
pub async fn start(
    worker: &mut Worker,
    db: &Database,
    outbound: Outbound,
    sealer: Option<Arc<Sealer>>,
) -> sqlx::Result<Arc<Catalog>> {
    let catalog = Arc::new(Catalog::default());
    let router = Router::new(db.clone(), Arc::clone(&catalog), sealer.clone()).await?;
    worker.add(Arc::new(router));
    worker.add(Arc::new(Deliveries::new(db.clone(), Arc::clone(&catalog), outbound, sealer)));
    Ok(catalog)
}

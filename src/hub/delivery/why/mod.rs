//! Why a delivery is not running: its facts, in one short transaction, and what follows from them.

mod facts;
mod reasons;
mod waits;

use crate::db;
use crate::hub::definitions::catalog::Catalog;
use crate::worker::store::why as engine;
use crate::worker::why::{ItemKind, Why};
pub use facts::Store;
use facts::read;
use reasons::reasons;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use uuid::Uuid;

/// Why a delivery of a store is not running, by what `catalog` knows; `None` when there is no such delivery.
///
/// # Errors
/// The database's.
pub async fn why(pool: &PgPool, catalog: Arc<Catalog>, of: Store, id: Uuid) -> sqlx::Result<Option<Why>> {
    let see = format!("/stores/{}/deliveries/{id}", of.name);
    let facts = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move {
            engine::begin(&mut *tx).await?;
            let Some(facts) = read(&mut *tx, &catalog, &of, id).await? else { return Ok(None) };
            // The head of a line waits in none.
            let head = match &facts.line {
                Some(line) => read(tx, &catalog, &of, line.head).await?,
                None => None,
            };
            Ok(Some((facts, head)))
        })
    });
    Ok(facts.await?.map(|(facts, head)| {
        let head = head.map(|head| reasons(&head, &[]));
        let (status, at) = (facts.status(), facts.now);
        Why::new(ItemKind::Delivery, see, status, at, reasons(&facts, &head.unwrap_or_default()))
    }))
}

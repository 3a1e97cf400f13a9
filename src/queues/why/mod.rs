//! Why a message is not running: its facts, in one short transaction, and what follows from them.

mod facts;
mod reasons;

use super::catalog::Queue;
use crate::db;
use crate::worker::why::{ItemKind, Why};
use facts::{Runs, read};
use reasons::reasons;
use sqlx::postgres::PgPool;
use std::sync::Arc;
use uuid::Uuid;

/// Why a message of this queue is not running; `None` when there is no such message. Why its attempts failed is told only
/// to whom all of it is shown: `whole`.
///
/// # Errors
/// The database's.
pub async fn why(pool: &PgPool, queue: Arc<Queue>, id: Uuid, whole: bool) -> sqlx::Result<Option<Why>> {
    let see = format!("/queues/{}/messages/{id}", queue.name);
    let runs = Arc::new(Runs::of(&queue));
    let known = Arc::clone(&runs);
    let facts = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move { read(tx, queue.id, id, &known).await })
    });
    Ok(facts.await?.map(|mut facts| {
        if !whole {
            facts.last.iter_mut().for_each(|last| last.error = None);
        }
        let (status, at) = (facts.status(), facts.now);
        let reasons = if facts.row.ended.is_some() { Vec::new() } else { reasons(&facts, &runs) };
        Why::new(ItemKind::Message, see, status, at, reasons)
    }))
}

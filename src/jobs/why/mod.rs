//! Why a job is not running: its facts, in one short transaction, and what follows from them.

mod facts;
mod reasons;

use crate::db;
use crate::worker::why::{ItemKind, Why};
use facts::{Which, read};
use reasons::reasons;
use sqlx::postgres::PgPool;

/// Why a job of this type, whose lane is `type_id`, is not running; `None` when there is no such job. Who its worker is, or
/// who last asked for jobs, is told only if `named`.
///
/// # Errors
/// The database's.
pub async fn why(
    pool: &PgPool,
    type_id: i32,
    job_type: &str,
    id: i64,
    named: bool,
) -> sqlx::Result<Option<Why>> {
    let which = Which { job_type: job_type.to_owned(), id };
    let facts = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move { read(tx, type_id, id).await })
    });
    Ok(facts.await?.map(|mut facts| {
        if !named {
            facts.held.iter_mut().for_each(|held| held.holder = None);
            facts.asker.iter_mut().for_each(|last| last.by = None);
        }
        let reasons = if facts.row.completed_at.is_some() { Vec::new() } else { reasons(&facts, &which) };
        Why::new(ItemKind::Job, format!("/{job_type}/{id}"), facts.row.status, facts.now, reasons)
    }))
}

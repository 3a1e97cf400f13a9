//! Why a job is not running: its facts, in one short transaction, and what follows from them.

mod reasons;

use super::store::why as store;
use crate::db;
use crate::worker::store::{LastAsker, asker, why as engine};
use crate::worker::why::{ItemKind, Why};
use chrono::{DateTime, Utc};
use reasons::reasons;
use sqlx::postgres::{PgConnection, PgPool};

/// What is to be known of a job.
#[derive(Debug, Clone)]
struct Facts {
    now: DateTime<Utc>,
    row: store::Row,
    held: Option<engine::Held>,
    scheduled: Option<DateTime<Utc>>,
    asker: Option<LastAsker>,
    ahead: Option<engine::Ahead>,
}

/// Which job it is.
#[derive(Debug, Clone)]
struct Which {
    job_type: String,
    id: i64,
}

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

async fn read(tx: &mut PgConnection, type_id: i32, id: i64) -> sqlx::Result<Option<Facts>> {
    let now = engine::begin(&mut *tx).await?;
    let Some(row) = store::row(&mut *tx, type_id, id).await? else { return Ok(None) };
    let item = row.item;
    let mut facts = Facts { now, row, held: None, scheduled: None, asker: None, ahead: None };
    if facts.row.completed_at.is_some() {
        return Ok(Some(facts));
    }
    if facts.row.started_at.is_some() {
        facts.held = engine::held(&mut *tx, &[type_id], item).await?.pop();
        return Ok(Some(facts));
    }
    facts.asker = asker(&mut *tx, type_id).await?;
    facts.scheduled = engine::scheduled(&mut *tx, item).await?.map(|(run_at, _)| run_at);
    if facts.scheduled.is_none() {
        facts.ahead = engine::ahead(tx, type_id, 0, item).await?;
    }
    Ok(Some(facts))
}

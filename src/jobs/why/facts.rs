//! The facts of a job, and the reading of them.

use crate::jobs::store::why as store;
use crate::worker::store::{LastAsker, asker, why as engine};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;

/// What is to be known of a job.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: DateTime<Utc>,
    pub(super) row: store::Row,
    pub(super) held: Option<engine::Held>,
    pub(super) scheduled: Option<DateTime<Utc>>,
    pub(super) asker: Option<LastAsker>,
    pub(super) processes: Vec<engine::Process>,
    pub(super) ahead: Option<engine::Ahead>,
}

/// Which job it is.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub(super) job_type: String,
    pub(super) id: i64,
}

/// Reads the facts of a job; `None` when there is no such job.
pub(super) async fn read(tx: &mut PgConnection, type_id: i32, id: i64) -> sqlx::Result<Option<Facts>> {
    let now = engine::begin(&mut *tx).await?;
    let Some(row) = store::row(&mut *tx, type_id, id).await? else { return Ok(None) };
    let item = row.item;
    let processes = Vec::new();
    let mut facts = Facts { now, row, held: None, scheduled: None, asker: None, processes, ahead: None };
    if facts.row.completed_at.is_some() {
        return Ok(Some(facts));
    }
    if facts.row.started_at.is_some() {
        facts.held = engine::held(&mut *tx, &[type_id], item).await?.pop();
        if facts.held.as_ref().is_some_and(|held| held.is_silent) {
            facts.processes = engine::processes(tx).await?;
        }
        return Ok(Some(facts));
    }
    facts.asker = asker(&mut *tx, type_id).await?;
    if facts.row.key_id.is_some() {
        facts.processes = engine::processes(&mut *tx).await?;
    }
    facts.scheduled = engine::scheduled(&mut *tx, item).await?.map(|(run_at, _)| run_at);
    if facts.scheduled.is_none() {
        facts.ahead = engine::ahead(tx, type_id, 0, item).await?;
    }
    Ok(Some(facts))
}

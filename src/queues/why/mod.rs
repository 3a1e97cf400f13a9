//! Why a message is not running: its facts, in one short transaction, and what follows from them.

mod reasons;

use super::catalog::Queue;
use super::definition::Handler;
use super::store::why as store;
use crate::db;
use crate::worker::store::{LastAsker, asker, why as engine};
use crate::worker::why::{ItemKind, Why, is_held};
use chrono::{DateTime, Utc};
use reasons::reasons;
use sqlx::postgres::{PgConnection, PgPool};
use std::sync::Arc;
use uuid::Uuid;

/// What is to be known of a message that has not ended.
#[derive(Debug, Clone)]
struct Facts {
    now: DateTime<Utc>,
    row: store::Row,
    held: Option<engine::Held>,
    scheduled: Option<DateTime<Utc>>,
    last: Option<store::Last>,
    processes: Vec<engine::Process>,
    asker: Option<LastAsker>,
    taken: engine::Taken,
    ahead: Option<engine::Ahead>,
}

/// What a queue says of who runs its messages, and how many at once.
#[derive(Debug, Clone)]
struct Runs {
    queue: String,
    handler: Option<Handler>,
    concurrency: Option<usize>,
    /// How many a process runs at once, unless it has less room for them.
    in_process: usize,
}

impl Runs {
    fn of(queue: &Queue) -> Self {
        let options = &queue.definition.options;
        Self {
            queue: queue.name.clone(),
            handler: queue.definition.handler.clone(),
            concurrency: options.concurrency.map(usize::from),
            in_process: options.process_concurrency(),
        }
    }
}

/// Why a message of this queue is not running; `None` when there is no such message.
///
/// # Errors
/// The database's.
pub async fn why(pool: &PgPool, queue: Arc<Queue>, id: Uuid) -> sqlx::Result<Option<Why>> {
    let see = format!("/queues/{}/messages/{id}", queue.name);
    let runs = Arc::new(Runs::of(&queue));
    let known = Arc::clone(&runs);
    let facts = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move { read(tx, queue.id, id, &known).await })
    });
    Ok(facts.await?.map(|facts| {
        let (status, at) = (facts.status(), facts.now);
        let reasons = if facts.row.ended.is_some() { Vec::new() } else { reasons(&facts, &runs) };
        Why::new(ItemKind::Message, see, status, at, reasons)
    }))
}

impl Facts {
    fn status(&self) -> String {
        let running = if self.held.is_some() { "INPROGRESS" } else { "PENDING" };
        self.row.ended.clone().unwrap_or_else(|| running.to_owned())
    }
}

async fn read(tx: &mut PgConnection, queue: i32, id: Uuid, runs: &Runs) -> sqlx::Result<Option<Facts>> {
    let is_remote = matches!(runs.handler, Some(Handler::Worker));
    let now = engine::begin(&mut *tx).await?;
    let Some(row) = store::row(&mut *tx, queue, id).await? else { return Ok(None) };
    let mut facts = Facts {
        now,
        row,
        held: None,
        scheduled: None,
        last: None,
        processes: Vec::new(),
        asker: None,
        taken: engine::Taken::default(),
        ahead: None,
    };
    if facts.row.ended.is_some() {
        return Ok(Some(facts));
    }
    let held = engine::held(&mut *tx, &[queue], id).await?;
    facts.held = is_held(&held, &facts.row.ended_leases).cloned();
    if facts.held.is_some() {
        return Ok(Some(facts));
    }
    facts.scheduled = engine::scheduled(&mut *tx, id).await?.map(|(run_at, _)| run_at);
    facts.last = store::last_attempt(&mut *tx, queue, id).await?;
    facts.processes = engine::processes(&mut *tx).await?;
    if is_remote {
        facts.asker = asker(&mut *tx, queue).await?;
    }
    if facts.scheduled.is_none() {
        // Remote workers may hold any number where nothing limits them.
        if !is_remote || runs.concurrency.is_some() {
            facts.taken = store::taken(&mut *tx, queue).await?;
        }
        facts.ahead = engine::ahead(tx, queue, facts.row.rank, id).await?;
    }
    Ok(Some(facts))
}

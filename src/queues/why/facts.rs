//! The facts of a message, and the reading of them.

use crate::queues::catalog::Queue;
use crate::queues::definition::Handler;
use crate::queues::store::why as store;
use crate::worker::store::{LastAsker, asker, why as engine};
use crate::worker::why::is_held;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// What is to be known of a message that has not ended.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) now: DateTime<Utc>,
    pub(super) row: store::Row,
    pub(super) held: Option<engine::Held>,
    pub(super) scheduled: Option<DateTime<Utc>>,
    pub(super) last: Option<store::Last>,
    pub(super) processes: Vec<engine::Process>,
    pub(super) asker: Option<LastAsker>,
    pub(super) taken: engine::Taken,
    pub(super) ahead: Option<engine::Ahead>,
    pub(super) keeper: Option<engine::Keeper>,
}

/// What a queue says of who runs its messages, and how many at once.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    pub(super) queue: String,
    pub(super) handler: Option<Handler>,
    pub(super) concurrency: Option<usize>,
    /// How many a process runs at once, unless it has less room for them.
    pub(super) in_process: usize,
}

impl Runs {
    pub(super) fn of(queue: &Queue) -> Self {
        let options = &queue.definition.options;
        Self {
            queue: queue.name.clone(),
            handler: queue.definition.handler.clone(),
            concurrency: options.concurrency.map(usize::from),
            in_process: options.process_concurrency(),
        }
    }
}

impl Facts {
    /// Its status.
    pub(super) fn status(&self) -> String {
        let running = if self.held.is_some() { "INPROGRESS" } else { "PENDING" };
        self.row.ended.clone().unwrap_or_else(|| running.to_owned())
    }
}

/// Reads the facts of a message; `None` when there is no such message.
pub(super) async fn read(
    tx: &mut PgConnection,
    queue: i32,
    id: Uuid,
    runs: &Runs,
) -> sqlx::Result<Option<Facts>> {
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
        keeper: None,
    };
    if facts.row.ended.is_some() {
        return Ok(Some(facts));
    }
    let held = engine::held(&mut *tx, &[queue], id).await?;
    facts.held = is_held(&held, &facts.row.ended_leases).cloned();
    if let Some(held) = &facts.held {
        if held.is_silent {
            facts.processes = engine::processes(tx).await?;
        }
        return Ok(Some(facts));
    }
    facts.scheduled = engine::scheduled(&mut *tx, id).await?.map(|(run_at, _)| run_at);
    facts.keeper = engine::keeper(&mut *tx, id).await?;
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

//! The queue definitions as this process knows them, compiled, one snapshot at a time.

use super::definition::{Definition, Handler};
use super::schema::CompiledSchema;
use super::store::definitions;
use crate::error::{Error, Result};
use arc_swap::ArcSwap;
use serde_json::value::RawValue;
use sqlx::postgres::PgPool;
use std::collections::HashMap;
use std::sync::Arc;

/// A queue, ready to use.
#[derive(Debug)]
pub struct Queue {
    /// Its lane.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub definition: Definition,
    /// The definition as it was put.
    pub document: Box<RawValue>,
    /// The source of its JavaScript handler, if that is what it has.
    pub script: Option<Arc<str>>,
    /// The schema its messages are held against, if it has one.
    pub schema: Option<Arc<CompiledSchema>>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// Who wrote it: api, file or example.
    pub source: String,
    /// Whether nothing is claimed from it.
    pub paused: bool,
}

#[derive(Debug, Default)]
struct Snapshot {
    revision: i64,
    /// Whether a definition could not be used.
    incomplete: bool,
    by_name: HashMap<String, Arc<Queue>>,
    by_id: HashMap<i32, Arc<Queue>>,
}

/// All queues of the instance.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<Snapshot>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// The queue of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Queue>> {
        self.current.load().by_name.get(name).cloned()
    }

    /// The queue of this lane.
    pub fn by_id(&self, id: i32) -> Option<Arc<Queue>> {
        self.current.load().by_id.get(&id).cloned()
    }

    /// Whether a queue has this lane.
    pub fn has(&self, id: i32) -> bool {
        self.current.load().by_id.contains_key(&id)
    }

    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.current.load().revision
    }

    /// Whether every definition there is could be used.
    pub fn is_complete(&self) -> bool {
        !self.current.load().incomplete
    }

    /// All queues, by name.
    pub fn all(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<_> = self.current.load().by_name.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Calls `visit` for every queue, in no order.
    pub fn each(&self, mut visit: impl FnMut(&Queue)) {
        self.current.load().by_id.values().for_each(|queue| visit(queue));
    }

    /// Reads the definitions unless this process knows `revision` already. What did not change is kept,
    /// compiled as it is.
    ///
    /// # Errors
    /// The database cannot be read; the former snapshot stays.
    pub async fn refresh(&self, db: &PgPool, revision: i64) -> sqlx::Result<()> {
        // One at a time: the others find it done.
        let _one = self.refreshing.lock().await;
        let former = self.current.load_full();
        if former.revision >= revision && !former.incomplete {
            return Ok(());
        }
        let (revision, rows) = definitions::all(db).await?;
        let mut next = Snapshot { revision, ..Snapshot::default() };
        for row in rows {
            let kept = former.by_id.get(&row.id).filter(|queue| queue.version == row.version).cloned();
            let queue = if let Some(queue) = kept {
                queue
            } else {
                let (id, paused) = (row.id, row.paused);
                let compiled = compile(row).await.map(Arc::new);
                next.incomplete |= compiled.is_none();
                // Better the former definition than no queue.
                let former = || former.by_id.get(&id).filter(|queue| queue.paused == paused).cloned();
                let Some(queue) = compiled.or_else(former) else { continue };
                queue
            };
            next.by_name.insert(queue.name.clone(), Arc::clone(&queue));
            next.by_id.insert(queue.id, queue);
        }
        self.current.store(Arc::new(next));
        Ok(())
    }
}

/// Compiles a stored definition. It was checked when it was put; one that does not compile now (put by
/// another version of Postrider) is left out, loudly, and the others work.
async fn compile(row: definitions::Row) -> Option<Queue> {
    let (definition, schema) = match compiled(&row.name, row.definition.get()).await {
        Ok(compiled) => compiled,
        Err(why) => {
            tracing::error!(queue = row.name, %why, "a stored definition cannot be used: the queue is out of service");
            return None;
        }
    };
    let script = match &definition.handler {
        Some(Handler::JavaScript { source }) => Some(Arc::from(source.as_str())),
        _ => None,
    };
    Some(Queue {
        id: row.id,
        name: row.name,
        definition,
        document: row.definition.0,
        script,
        schema,
        version: row.version,
        source: row.source,
        paused: row.paused,
    })
}

async fn compiled(name: &str, document: &str) -> Result<(Definition, Option<Arc<CompiledSchema>>)> {
    let document = serde_json::from_str(document).map_err(Error::internal)?;
    let definition = Definition::read(name, &document)?;
    let schema = definition.compile_schema().await?;
    Ok((definition, schema))
}

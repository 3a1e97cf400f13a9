//! The queue definitions as this process knows them, compiled, one snapshot at a time.

use super::definition::{Definition, Handler};
use super::schema::CompiledSchema;
use super::secret;
use super::store::definitions;
use crate::db::by_id;
use crate::error;
use crate::http::json_text::to_value;
use crate::seal::{Sealer, Unopened};
use crate::worker::definitions::{Definitions, Kind, Stored};
use crate::worker::store::Catalogued;
use secrecy::SecretString;
use serde_json::value::RawValue;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
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
    /// The definition as it was put, without its handler's secret.
    pub document: Box<RawValue>,
    /// That secret, unless this process has no key that opens it.
    pub secret: Result<Option<SecretString>, Unopened>,
    /// The source of its JavaScript handler, if that is what it has.
    pub script: Option<Arc<str>>,
    /// The schema that validates its messages, if it has one.
    pub schema: Option<Arc<CompiledSchema>>,
    /// The catalog's revision at its last change.
    pub version: i64,
    /// Who wrote it: api, file or example.
    pub source: String,
    /// Whether nothing is claimed from it.
    pub paused: bool,
}

/// The queues that this process knows.
#[derive(Debug, Clone, Default)]
struct Known {
    by_name: HashMap<String, Arc<Queue>>,
    by_id: by_id::HashMap<i32, Arc<Queue>>,
}

/// Definitions of queues.
struct Queues {
    sealer: Option<Arc<Sealer>>,
}

/// All queues of the instance.
pub struct Catalog(Definitions<Queues>);

impl Default for Catalog {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Catalog {
    /// A catalog that opens secrets with this sealer, and knows nothing yet.
    pub fn new(sealer: Option<Arc<Sealer>>) -> Self {
        Self(Definitions::new(Queues { sealer }))
    }

    /// The queue of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Queue>> {
        self.0.load().known.by_name.get(name).cloned()
    }

    /// The queue of this lane.
    pub fn by_id(&self, id: i32) -> Option<Arc<Queue>> {
        self.0.load().known.by_id.get(&id).cloned()
    }

    /// Whether a queue has this lane.
    pub fn has(&self, id: i32) -> bool {
        self.0.load().known.by_id.contains_key(&id)
    }

    /// The revision that this process knows.
    pub fn revision(&self) -> i64 {
        self.0.load().revision
    }

    /// Whether every definition there is could be used.
    pub fn is_complete(&self) -> bool {
        self.0.load().is_complete()
    }

    /// All queues, by name.
    pub fn all(&self) -> Vec<Arc<Queue>> {
        let mut all: Vec<_> = self.0.load().known.by_name.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Calls `visit` for every queue, in no order.
    pub fn each(&self, mut visit: impl FnMut(&Queue)) {
        self.0.load().known.by_id.values().for_each(|queue| visit(queue));
    }

    /// Learns what changed, unless this process knows `revision` already.
    ///
    /// # Errors
    /// The database cannot be read; what was known stays.
    pub async fn refresh(&self, db: &PgPool, revision: i64) -> sqlx::Result<bool> {
        self.0.refresh(db, revision).await
    }
}

impl Stored for definitions::Row {
    fn id(&self) -> i32 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn label(&self) -> String {
        format!("queue {}", self.name)
    }
}

impl Kind for Queues {
    type Row = definitions::Row;
    type Known = Known;

    async fn changed(
        &self,
        db: &PgPool,
        known: i64,
        again: &[i32],
    ) -> sqlx::Result<(Catalogued, Vec<definitions::Row>)> {
        definitions::changed(db, known, again).await
    }

    async fn ids(&self, db: &PgPool) -> sqlx::Result<Vec<i32>> {
        definitions::ids(db).await
    }

    /// Compiles a definition. It was checked when it was put; one that does not compile now was put by another
    /// version of Postrider.
    async fn learn(&self, known: &mut Known, row: definitions::Row) -> Result<(), String> {
        let (definition, schema) = match compiled(&row.name, row.definition.get()).await {
            Ok(compiled) => compiled,
            Err(why) => {
                // Better the former definition than no queue, but not against a pause.
                if known.by_id.get(&row.id).is_some_and(|former| former.paused != row.paused) {
                    known.by_id.remove(&row.id);
                    known.by_name.remove(&row.name);
                }
                return Err(why.to_string());
            }
        };
        let script = match &definition.handler {
            Some(Handler::JavaScript { source }) => Some(Arc::from(source.as_str())),
            _ => None,
        };
        let secret = secret::open(self.sealer.as_deref(), &row.name, row.secret.as_ref());
        if let Err(why) = &secret {
            tracing::error!(queue = row.name, %why, "the messages of this queue wait for a process that can sign them");
        }
        let queue = Arc::new(Queue {
            id: row.id,
            name: row.name,
            definition,
            document: row.definition.0,
            secret,
            script,
            schema,
            version: row.version,
            source: row.source,
            paused: row.paused,
        });
        known.by_name.insert(queue.name.clone(), Arc::clone(&queue));
        known.by_id.insert(queue.id, queue);
        Ok(())
    }

    fn retain(&self, known: &mut Known, there: &HashSet<i32>) {
        known.by_id.retain(|id, _| there.contains(id));
        known.by_name.retain(|_, queue| there.contains(&queue.id));
    }
}

async fn compiled(name: &str, document: &str) -> error::Result<(Definition, Option<Arc<CompiledSchema>>)> {
    let definition = Definition::read(name, &to_value(document).unwrap_or_default())?;
    let schema = definition.compile_schema().await?;
    Ok((definition, schema))
}

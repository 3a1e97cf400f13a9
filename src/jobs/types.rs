//! The job types as this process knows them: loaded from files at the start, from the database since.

use super::job_type::{self, BUILT_IN, JobType, Rules};
use super::metrics::Series;
use super::store::types;
use crate::db;
use crate::worker::definitions::{Definitions, Kind, Stored};
use crate::worker::store::{self as engine, Catalogued};
use sqlx::postgres::PgPool;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

const FILE: &str = ".jobs.json";

/// The job types that this process knows: few.
#[derive(Debug, Clone, Default)]
struct Known {
    by_id: BTreeMap<i32, Arc<JobType>>,
}

/// Definitions of job types.
#[derive(Debug)]
struct OfTypes;

/// All job types of the instance.
#[derive(Debug)]
pub struct Types(Definitions<OfTypes>);

impl Default for Types {
    fn default() -> Self {
        Self(Definitions::new(OfTypes))
    }
}

impl Types {
    /// The type of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<JobType>> {
        self.0.load().known.by_id.values().find(|found| found.name == name).cloned()
    }

    /// The type of this lane.
    pub fn by_id(&self, id: i32) -> Option<Arc<JobType>> {
        self.0.load().known.by_id.get(&id).cloned()
    }

    /// The lanes of all types.
    pub fn ids(&self) -> Vec<i32> {
        self.0.load().known.by_id.keys().copied().collect()
    }

    /// Stores the built-in type and those of the files in `directory`, and learns of all that are stored.
    ///
    /// # Errors
    /// The database's, or a directory that cannot be listed. A broken file is only logged.
    pub async fn load(&self, pool: &PgPool, directory: Option<&Path>) -> anyhow::Result<()> {
        let mut definitions = BTreeMap::from([(BUILT_IN.to_owned(), "{}".to_owned())]);
        if let Some(directory) = directory {
            definitions.extend(files(directory)?);
        }
        db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move { types::ensure(tx, &definitions).await })
        })
        .await?;
        let revision = engine::revision(pool).await?;
        self.refresh(pool, revision).await?;
        Ok(())
    }

    /// Learns what changed, unless this process knows `revision` already; says whether there was a newer one.
    ///
    /// # Errors
    /// The database cannot be read; what was known stays.
    pub async fn refresh(&self, pool: &PgPool, revision: i64) -> sqlx::Result<bool> {
        self.0.refresh(pool, revision).await
    }
}

impl Stored for types::Row {
    fn id(&self) -> i32 {
        self.id
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn label(&self) -> String {
        format!("job type {}", self.name)
    }
}

impl Kind for OfTypes {
    type Row = types::Row;
    type Known = Known;

    async fn changed(
        &self,
        db: &PgPool,
        known: i64,
        again: &[i32],
    ) -> sqlx::Result<(Catalogued, Vec<types::Row>)> {
        types::changed(db, known, again).await
    }

    async fn ids(&self, db: &PgPool) -> sqlx::Result<Vec<i32>> {
        types::ids(db).await
    }

    async fn learn(&self, known: &mut Known, row: types::Row) -> Result<(), String> {
        let rules = Rules::read(row.definition.get()).map_err(|error| error.whole())?;
        let series = Series::of(&row.name);
        known.by_id.insert(row.id, Arc::new(JobType { id: row.id, name: row.name, rules, series }));
        Ok(())
    }

    fn retain(&self, known: &mut Known, there: &HashSet<i32>) {
        known.by_id.retain(|id, _| there.contains(id));
    }
}

/// The whole definitions in `directory`, by name.
fn files(directory: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(FILE)) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let text = std::fs::read_to_string(directory.join(&file))?;
        match job_type::check_name(name).and_then(|()| Rules::read(&text)) {
            Ok(_) => _ = found.insert(name.to_owned(), text),
            Err(error) => {
                tracing::error!(job_type = name, error = error.whole(), "a job type in files cannot be used");
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn whole_files_are_read_and_broken_ones_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("import_jobs.jobs.json", r#"{"attempts":2}"#),
            ("broken_jobs.jobs.json", "{"),
            ("queues.jobs.json", "{}"),
            (".hidden.jobs.json", "{}"),
            ("some.queue.json", "{}"),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let found: Vec<String> = files(directory.path()).unwrap().into_keys().collect();
        assert_eq!(found, ["import_jobs"]);
    }
}

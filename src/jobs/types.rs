//! The job types as this process knows them: loaded from files at the start, from the database since.

use super::job_type::{self, BUILT_IN, JobType, Rules};
use super::metrics::Series;
use super::store::types;
use crate::db;
use arc_swap::ArcSwap;
use sqlx::postgres::PgPool;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = ".jobs.json";

/// All job types of the instance.
#[derive(Debug, Default)]
pub struct Types {
    current: ArcSwap<Vec<Arc<JobType>>>,
}

impl Types {
    /// The type of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<JobType>> {
        self.current.load().iter().find(|found| found.name == name).cloned()
    }

    /// The type of this lane.
    pub fn by_id(&self, id: i32) -> Option<Arc<JobType>> {
        self.current.load().iter().find(|found| found.id == id).cloned()
    }

    /// The lanes of all types.
    pub fn ids(&self) -> Vec<i32> {
        self.current.load().iter().map(|found| found.id).collect()
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
        self.refresh(pool).await?;
        Ok(())
    }

    /// Learns of all types that are stored.
    ///
    /// # Errors
    /// The database's.
    pub async fn refresh(&self, pool: &PgPool) -> sqlx::Result<()> {
        let stored = types::all(pool).await?;
        let types = stored.into_iter().filter_map(|row| match Rules::read(row.definition.get()) {
            Ok(rules) => {
                let series = Series::of(&row.name);
                Some(Arc::new(JobType { id: row.id, name: row.name, rules, series }))
            }
            Err(error) => {
                tracing::error!(job_type = row.name, %error, "a stored job type cannot be used: it is out of service");
                None
            }
        });
        self.current.store(Arc::new(types.collect()));
        Ok(())
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
            Err(error) => tracing::error!(job_type = name, %error, "a job type in files cannot be used"),
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

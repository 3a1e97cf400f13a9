//! What goes on beside the messages: definitions from files, and tidying up.

use super::catalog::Queue;
use super::files::{Change, Watcher};
use super::install::{self, Source};
use super::routes::Queues;
use super::schedules::{entry, put};
use super::secret::{self, Parted, Secret};
use super::tidy::Tidy;
use crate::error::{Error, Result};
use crate::http::json_text::raw;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the queues directory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The upkeep of the queues.
pub struct Upkeep {
    queues: Queues,
    files: Option<Watcher>,
    /// What the files say and is not in place yet.
    changes: VecDeque<Change>,
    /// What is put in place once.
    given: Given,
}

/// Definitions that are put in place when a process starts.
#[derive(Debug, Default)]
pub struct Given {
    /// A directory of examples; one does not replace what somebody else wrote.
    pub examples: Option<PathBuf>,
    /// By name, what the program says that uses this crate as a library.
    pub code: Vec<(String, Value)>,
}

impl Upkeep {
    /// Upkeep that watches `files` and once loads what is `given`.
    pub fn new(queues: Queues, files: Option<PathBuf>, given: Given) -> Self {
        Self { queues, files: files.map(Watcher::new), changes: VecDeque::new(), given }
    }

    /// Loads every definition there is, before the first request.
    ///
    /// # Errors
    /// The database's, a queues directory that cannot be read, or a definition in the program's code that cannot be used.
    /// A broken file is only logged.
    pub async fn load(&mut self) -> anyhow::Result<()> {
        self.queues.access.refresh().await?;
        let Given { examples, code } = std::mem::take(&mut self.given);
        for (name, definition) in code {
            self.put(&name, &raw(&definition), Source::Code)
                .await
                .map_err(|error| anyhow::anyhow!("the queue {name}: {}", error.whole()))?;
        }
        if let Some(examples) = examples {
            for change in Watcher::new(&examples).changed()? {
                if let Change::Defined { name, .. } = &change
                    && self.queues.access.catalog.by_name(name).is_some_and(|queue| queue.source != "example")
                {
                    continue;
                }
                self.apply(&change, Source::Example).await?;
            }
        }
        self.look().await
    }

    /// Goes on until `stop`. A look at the files waits for no tidying.
    pub async fn run(mut self, stop: CancellationToken) {
        let tidy = Tidy::new(self.queues.clone());
        tokio::join!(self.watch(&stop), tidy.run(&stop));
    }

    async fn watch(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot look at the queues directory; trying again");
            }
            stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        self.changes.extend(files.changed()?);
        // A change that meets a database that is away stays the next one.
        while let Some(change) = self.changes.front() {
            self.apply(change, Source::File).await?;
            self.changes.pop_front();
        }
        Ok(())
    }

    /// Puts a definition in place unless it is; says whether it did.
    async fn put(&self, name: &str, document: &RawValue, source: Source) -> Result<bool> {
        let definition = entry::without_member(document);
        let names_schedules = definition.get() != document.get();
        let known = self.queues.access.catalog.by_name(name);
        let same = known.filter(|queue| is_same(queue, &definition, source));
        if same.is_some() && !names_schedules {
            return Ok(false);
        }
        let schedules = install::check(&self.queues.runners, name, document).await?;
        let db = &self.queues.access.db;
        if let (Some(queue), Some(schedules)) = (same, &schedules)
            && put::are(&mut *db.api.acquire().await?, queue.id, schedules).await?
        {
            return Ok(false);
        }
        install::store(db, self.queues.sealer.clone(), name, document, schedules, source).await?;
        self.queues.changed().await?;
        Ok(true)
    }

    /// Whether this process has no key for the secret of a definition.
    fn needs_a_key(&self, document: &RawValue) -> bool {
        self.queues.sealer.is_none() && matches!(secret::part(document).secret, Some(Secret::New(_)))
    }

    /// Puts a definition from files in place, if it says anything new. A broken one changes nothing.
    async fn apply(&self, change: &Change, source: Source) -> Result<()> {
        match change {
            Change::Defined { name, document } => match self.put(name, document, source).await {
                Ok(false) => {}
                Ok(true) => tracing::info!(queue = name, "loaded a definition from files"),
                // Without a key nothing comes of trying again.
                Err(error) if error.status().is_server_error() && !self.needs_a_key(document) => {
                    return Err(error);
                }
                Err(error) => broken(name, &error, source),
            },
            Change::Broken { name, error } => broken(name, error, source),
            Change::Removed { name } => {
                tracing::warn!(queue = name, "the files of a definition are gone; the queue stays as it was");
            }
        }
        Ok(())
    }
}

fn is_same(queue: &Queue, document: &RawValue, source: Source) -> bool {
    let Parted { document, secret } = secret::part(document);
    let same_secret = match (secret, &queue.secret) {
        (None, there) => matches!(there, Ok(None)),
        (Some(Secret::Kept), there) => !matches!(there, Ok(None)),
        (Some(Secret::New(new)), Ok(Some(there))) => new.expose_secret() == there.expose_secret(),
        (Some(Secret::New(_)), _) => false,
    };
    same_secret && queue.document.get() == document.get() && queue.source == source.as_str()
}

fn broken(name: &str, error: &Error, source: Source) {
    let error = error.whole();
    if source == Source::Example {
        tracing::info!(
            queue = name,
            error,
            "left out an example: it needs settings that are not the default"
        );
        return;
    }
    tracing::error!(queue = name, error, "a definition in files cannot be used; the former one stays");
}

//! What goes on beside the messages: definitions from files, and tidying up.

use super::catalog::Queue;
use super::files::{Change, Watcher};
use super::install::{self, Source};
use super::routes::Queues;
use super::tidy::Tidy;
use crate::error::Result;
use crate::http::json_text::to_value;
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
    examples: Option<PathBuf>,
}

impl Upkeep {
    /// Upkeep that watches `files` and once loads `examples`.
    pub fn new(queues: Queues, files: Option<PathBuf>, examples: Option<PathBuf>) -> Self {
        Self { queues, files: files.map(Watcher::new), changes: VecDeque::new(), examples }
    }

    /// Loads every definition there is, before the first request.
    ///
    /// # Errors
    /// The database's, or a queues directory that cannot be read. A broken file is only logged.
    pub async fn load(&mut self) -> anyhow::Result<()> {
        self.queues.access.refresh().await?;
        if let Some(examples) = self.examples.take() {
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

    /// Puts a definition from files in place, if it says anything new. A broken one changes nothing.
    async fn apply(&self, change: &Change, source: Source) -> Result<()> {
        match change {
            Change::Defined { name, document } => {
                let known = self.queues.access.catalog.by_name(name);
                if known.is_some_and(|queue| is_same(&queue, document, source)) {
                    return Ok(());
                }
                let value = to_value(document.get()).unwrap_or_default();
                if let Err(error) = install::check(&self.queues.runners, name, &value).await {
                    if error.status().is_server_error() {
                        return Err(error);
                    }
                    broken(name, &error, source);
                    return Ok(());
                }
                install::store(&self.queues.access.db, name, document.clone(), source).await?;
                self.queues.changed().await?;
                tracing::info!(queue = name, "loaded a definition from files");
            }
            Change::Broken { name, error } => broken(name, error, source),
            Change::Removed { name } => {
                tracing::warn!(queue = name, "the files of a definition are gone; the queue stays as it was");
            }
        }
        Ok(())
    }
}

fn is_same(queue: &Queue, document: &RawValue, source: Source) -> bool {
    queue.document.get() == document.get() && queue.source == source.as_str()
}

fn broken(name: &str, error: &crate::error::Error, source: Source) {
    if source == Source::Example {
        tracing::info!(queue = name, %error, "left out an example: it needs settings that are not the default");
        return;
    }
    let violations =
        if let crate::error::Error::Invalid(_, violations) = error { violations.as_slice() } else { &[] };
    tracing::error!(queue = name, %error, ?violations, "a definition in files cannot be used; the former one stays");
}
